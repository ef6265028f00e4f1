package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/hostnet"
	"github.com/ikegod/ikegod/kernel/updown"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/transport/mux"
)

const (
	// shutdownTime is how long a clean stop may take; peers that do not answer our Delete are not waited for longer.
	shutdownTime = 5 * time.Second
	// lastAnswers is how long requests on the control socket may take to end then.
	lastAnswers = 200 * time.Millisecond
	// lastScripts is how long scripts of leftupdown= that undo what they have done may take after that.
	lastScripts = 10 * time.Second
	// sweepAgain is how long after what an earlier daemon left could not be taken away that is tried again.
	sweepAgain = time.Minute
	// waitingEvents is how many events may wait for the log.
	waitingEvents = 8192
)

// daemon is the parts, joined. Constant once it serves.
type daemon struct {
	settings Settings
	started  time.Time
	z        *zap.Logger
	stop     context.CancelFunc

	can    kernel.Abilities
	choice kernel.Choice
	dp     kernel.Datapath
	xfrm   kernel.Datapath     // the kernel's half of dp, or all of it; nil where it has no part
	user   *userspace.Datapath // what is the userspace datapath's alone; nil where the kernel carries everything

	xfrmEvents eventSwitch
	unswept    string // why what an earlier daemon left is still there; of wait's goroutine

	addrs  *hostnet.Addrs
	mux    *mux.Mux
	engine *engine.Engine
	updown *updown.Runner
	config *configuration
}

// serve is ikegod from its settings to its end.
func serve(ctx context.Context, s Settings, warnings []string) (err error) {
	if err := errors.Join(mayChangeNetworks(), harden()); err != nil {
		return err
	}
	z, err := newLogger(s.LogLevel, s.LogFormat)
	if err != nil {
		return err
	}
	defer func() { _ = z.Sync() }() // standard error of a terminal or a pipe cannot be synced, and need not
	for _, w := range warnings {
		z.Warn(w, zap.String(keyPart, "settings"))
	}
	run, err := takeRunDir(s.RunDir)
	if err != nil {
		return err
	}
	defer run.release()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &daemon{settings: s, started: time.Now(), z: z, stop: stop}
	return d.run(ctx)
}

// run makes the parts from the bottom up, serves, and takes them down from the top. What fails on the way up takes what is there down again.
func (d *daemon) run(ctx context.Context) error {
	// From the first moment to the last: a reload that is asked for too early waits, and one that is asked for too late must not end us in the middle.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var undo undoList
	defer undo.all()
	d.config = &configuration{file: d.settings.Config, z: d.z}
	if d.settings.given["secrets"] {
		d.config.secrets = d.settings.Secrets
	}
	first, err := d.config.read()
	d.config.log(first)
	if err != nil {
		return err
	}
	pump := engine.NewPump(waitingEvents, (&eventLog{z: d.z}).write)
	undo.add(pump.Close)
	if err := d.parts(first, pump, &undo); err != nil {
		return err
	}
	serving := d.background(&undo)
	stopMetrics, err := d.serveMetrics()
	if err != nil {
		return err
	}
	undo.add(stopMetrics)
	// At the end the engine is shut down first, so that whoever waits on the control socket hears of it before that closes.
	serveControl, err := d.listenControl(&undo)
	if err != nil {
		return err
	}
	undo.add(d.shutdown)
	if err := d.config.start(ctx, d.engine, first); err != nil {
		return err
	}
	d.watchAddresses(ctx)
	if err := d.engine.InPlace(ctx); err != nil {
		return err
	}
	swept := d.sweep()
	go serveControl()
	d.ready()
	return d.wait(ctx, hup, serving, swept)
}

// parts makes host, sockets, datapath and engine, and joins them.
func (d *daemon) parts(first loaded, pump *engine.Pump, undo *undoList) (err error) {
	s := d.settings
	if d.addrs, err = hostnet.NewAddrs(); err != nil {
		return err
	}
	d.addrs.Mark = s.Mark
	undo.add(d.addrs.Close)
	// The datapath is there before the engine that its events go to; until then nobody has asked it for anything.
	var sink atomic.Pointer[engine.Engine]
	events := func(ev kernel.Event) {
		if e := sink.Load(); e != nil {
			e.KernelEvent(ev)
		}
	}
	closeDatapath := sync.OnceFunc(d.closeDatapath)
	undo.add(closeDatapath)
	if err := d.choose(asker(first.set), events); err != nil {
		return err
	}
	setup := first.set.Setup
	options := mux.Options{ListenUDP: setup.ListenUDP, ListenTCP: setup.ListenTCP, Prepare: hostnet.Prepare(s.Mark), Notice: logNotice(d.z)}
	if setup.Listen.IsValid() {
		options.Addrs = []netip.Addr{setup.Listen}
	}
	d.socketsFor(&options)
	if d.mux, err = mux.New(options); err != nil {
		return fmt.Errorf("%w (here %s and %s decide)", err, setup.Where("listen-udp"), setup.Where("listen-tcp"))
	}
	undo.add(func() { d.mux.Close() })
	undo.add(closeDatapath) // SAs go before the sockets that they use
	if err := d.carrier(setup.ListenUDP, events); err != nil {
		return err
	}
	d.updown = updown.New(updown.Options{Towards: d.addrs.Towards, Reqid: d.reqid})
	d.engine, err = engine.New(engine.Options{
		Mux: d.mux, Datapath: d.dp, Secrets: first.store, Local: d.addrs, Resolver: resolver(s.Mark), Events: pump.Push, Updown: d.updown, Choice: d.choice,
	})
	if err != nil {
		return err
	}
	sink.Store(d.engine)
	if d.user == nil {
		d.mux.Start(d.engine, nil)
	} else {
		d.mux.Start(d.engine, d.user)
	}
	return nil
}

// background runs the engine until it is undone. The channel gives its error, should it end by itself.
func (d *daemon) background(undo *undoList) <-chan error {
	ctx, cancel := context.WithCancel(context.Background())
	ended, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		if err := d.engine.Run(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	}()
	undo.add(func() {
		cancel()
		<-ended
	})
	return failed
}

// watchAddresses lets connections follow the addresses of this host.
func (d *daemon) watchAddresses(ctx context.Context) {
	if err := hostnet.Watch(ctx, d.routesChanged); err != nil {
		d.z.Error(err.Error()+"; connections whose address comes or goes need a reload", zap.String(keyPart, "hosts"))
	}
}

// resolver looks up names of peers. Its questions carry our mark: they must not wait for the tunnel whose peer they are about.
func resolver(mark uint32) *net.Resolver {
	prepare := hostnet.Prepare(mark)
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c) }}
	return &net.Resolver{PreferGo: true, Dial: d.DialContext}
}

// listenControl opens the control socket; serve answers on it.
func (d *daemon) listenControl(undo *undoList) (serve func(), err error) {
	l, err := ctl.Listen(d.settings.RunDir)
	if err != nil {
		return nil, err
	}
	srv := ctl.NewServer(service{d}, standardLog(d.z, "control"))
	undo.add(func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			d.z.Debug("control socket: " + err.Error())
		}
		_ = l.Close() // closed already, unless it never served
	})
	return func() {
		if err := srv.Serve(l); err != nil {
			d.z.Error("control socket: " + err.Error())
			d.stop()
		}
	}, nil
}

// ready says that ikegod serves.
func (d *daemon) ready() {
	var sockets []string
	for _, s := range d.listening() {
		sockets = append(sockets, s.Carrier+" "+s.Address)
	}
	if len(sockets) == 0 {
		sockets = append(sockets, "nothing (listen-udp=no, and no listen-tcp=)")
	}
	d.z.Info(fmt.Sprintf("datapath: %s (backend=%s): %s", d.choice.Shape, d.choice.Backend, d.choice.Why), zap.String(keyPart, "datapath"))
	d.z.Info(fmt.Sprintf("ikegod %s is ready: %d connections, %s datapath, listening on %s, run directory %s", buildVersion(), len(d.engine.Connections()),
		d.dp.Features().Name, strings.Join(sockets, ", "), d.settings.RunDir))
	for _, n := range d.notes() {
		d.z.Warn(n, zap.String(keyPart, "datapath"))
	}
	notify("READY=1")
}

// wait serves until it is told to stop. A hang-up reloads. What an earlier daemon left is swept again until that is done.
func (d *daemon) wait(ctx context.Context, hup <-chan os.Signal, failed <-chan error, swept bool) error {
	again := time.NewTicker(sweepAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			notify("STOPPING=1")
			d.z.Info(fmt.Sprintf("stopping after %s", time.Since(d.started).Round(time.Second)))
			return nil
		case err := <-failed:
			return fmt.Errorf("the engine ended: %w", err)
		case <-again.C:
			if !swept {
				swept = d.sweep()
			}
		case <-hup:
			notify("RELOADING=1")
			_, _ = d.config.reload(ctx) // it has logged what it did
			notify("READY=1")
		}
	}
}

// shutdown tells the peers and takes all SAs and policies down.
func (d *daemon) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := d.engine.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		d.z.Error("shutdown: " + err.Error())
	}
	ctx, cancel = context.WithTimeout(context.Background(), lastScripts)
	defer cancel()
	if err := d.updown.Close(ctx); err != nil {
		d.z.Error("shutdown: " + err.Error())
	}
}

// listening lists the sockets.
func (d *daemon) listening() []ctl.Socket {
	var out []ctl.Socket
	for _, p := range d.mux.UDPPorts() {
		out = append(out, ctl.Socket{Carrier: "UDP", Address: fmt.Sprintf("%s:%d", d.listenAddress(), p.Number)})
	}
	if d.dp.Features().PlainESP {
		out = append(out, ctl.Socket{Carrier: "ESP", Address: d.listenAddress()})
	}
	for _, p := range d.mux.TCPPorts() {
		out = append(out, ctl.Socket{Carrier: "TCP", Address: fmt.Sprintf("%s:%d", d.listenAddress(), p)})
	}
	return out
}

func (d *daemon) listenAddress() string {
	d.config.mu.Lock()
	defer d.config.mu.Unlock()
	if d.config.set != nil && d.config.set.Setup.Listen.IsValid() {
		return d.config.set.Setup.Listen.String()
	}
	return "*"
}

// undoList takes down in the opposite order.
type undoList []func()

func (u *undoList) add(f func()) { *u = append(*u, f) }

func (u *undoList) all() {
	for _, f := range slices.Backward(*u) {
		f()
	}
}

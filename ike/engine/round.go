package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport/ladder"
)

// round is one way up the ladder: UDP, then TCP if the connection allows it. One IKE SA goes from rung to rung with a new IKE_SA_INIT each
// (RFC 9329 5.1).
type round struct {
	attempts []Attempt
	wait     time.Duration // after the round, before the next
	on       path.Path     // the rung in work
	began    time.Time
	first    time.Time // when its first rung began
	asked    time.Time // when its hosts began to be looked for, before that
	fellBack bool      // another rung is tried than the first
	open     bool      // its outcome is not yet in attempts
	hint     error     // what ICMP said about the rung in work
}

// UpError says what each rung answered.
type UpError struct {
	Conn     string
	Attempts []Attempt
}

// Attempt is one try on one rung.
type Attempt struct {
	Path  path.Path
	Close event.Close
	Took  time.Duration
}

func (e *UpError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connection %q could not be brought up", e.Conn)
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s (%.1f s)", sep, a.answer(), a.Took.Seconds())
	}
	return b.String()
}

// answer is what the rung answered, with the peer that was asked.
func (a Attempt) answer() string {
	why := a.Close.Error()
	if peer := a.Path.Peer(); !a.Path.IsZero() && !strings.Contains(why, peer) {
		return peer + ": " + why
	}
	return why
}

// startRound begins at the first rung of the ladder.
func (c *control) startRound() { c.startRoundAsked(time.Now()) }

// startRoundAsked is startRound for what began with the search for its hosts, at that time.
func (c *control) startRoundAsked(asked time.Time) {
	c.home.alarms.unset(c)
	c.stopDial()
	c.roundID++
	c.round = round{first: time.Now(), asked: asked, attempts: c.carried}
	c.carried = nil
	c.set(phaseNegotiating)
	c.forgetOutcomes()
	c.ownTried = false
	if c.seeksHosts() {
		c.idle(c.conn.Negotiation, nil) // what is to be protected is known, or was
		return
	}
	id := c.roundID
	c.idle(c.conn.Negotiation, func(d kernel.Done) {
		switch {
		case id != c.roundID:
		case d.Err != nil:
			c.cannotBegin(event.ReasonInstallFailed, d.Err)
		case c.oriented == nil || c.lost:
			c.cannotBegin(event.ReasonPathFailed, c.without)
		default:
			c.begin()
		}
	})
}

// cannotBegin fails a round before its first rung.
func (c *control) cannotBegin(reason event.Reason, err error) {
	c.round.attempts = append(c.round.attempts, Attempt{Close: event.Close{Reason: reason, Detail: err.Error()}, Took: time.Since(c.round.asked)})
	c.round.wait = c.reviveWait()
	c.roundFailed()
}

// reviveWait is the delay before the next round.
func (c *control) reviveWait() time.Duration {
	if c.ladder == nil {
		return time.Minute
	}
	return c.ladder.Revive().Wait
}

// newLadder makes the ladder of a connection; nil when the configuration leaves nothing to try.
func newLadder(e *Engine, c *policy.Connection, setup policy.Setup) *ladder.Ladder {
	cfg := ladder.Config{ListenUDP: setup.ListenUDP, Jitter: mrand.New(jitterSource(e)).Float64}
	switch c.TCP.Mode {
	case policy.TCPNo:
		cfg.Mode = ladder.UDPOnly
	case policy.TCPYes:
		cfg.Mode = ladder.TCPOnly
	case policy.TCPFallback:
		cfg.Mode = ladder.Fallback
	}
	l, err := ladder.New(cfg)
	if err != nil {
		return nil
	}
	return l
}

// jitterSource spreads revivals. It is no secret, but it follows Options.Rand, so that a seed reproduces a run.
func jitterSource(e *Engine) mrand.Source {
	var seed [16]byte
	if _, err := io.ReadFull(e.newRand(), seed[:]); err != nil {
		return mrand.NewPCG(1, 2)
	}
	return mrand.NewPCG(binary.BigEndian.Uint64(seed[:]), binary.BigEndian.Uint64(seed[8:]))
}

// climb takes note of a failed rung and tries the next, or ends the round.
func (c *control) climb(o ladder.Outcome) {
	step := c.ladder.Failed(o)
	if step.NewRound {
		c.round.wait = step.Wait
		c.exhausted()
		return
	}
	last := c.round.attempts[len(c.round.attempts)-1]
	c.tell(event.Event{
		Level: event.Info, Kind: event.KindFallback, Path: c.pathFor(step.Rung),
		Text: fmt.Sprintf("connection %q: %s; trying %s", c.conn.Name, last.answer(), c.pathFor(step.Rung).Peer()),
	})
	c.round.fellBack = true
	c.tryRung(step.Rung)
}

// pathFor is the path of a rung as far as it is known before there is one.
func (c *control) pathFor(r ladder.Rung) path.Path {
	local, remote := c.oriented.UDPPorts()
	if r.Kind.Stream() {
		local, remote = 0, c.oriented.TCPPort()
	}
	return path.Path{Local: netip.AddrPortFrom(c.oriented.LocalAddr, local), Remote: netip.AddrPortFrom(c.oriented.RemoteAddr, remote), Kind: r.Kind}
}

func (c *control) tryRung(r ladder.Rung) {
	o := c.oriented
	c.round.began, c.round.open, c.round.on, c.round.hint = time.Now(), true, c.pathFor(r), nil
	if r.Kind.Stream() {
		c.dialTCP(c.round.on.Remote)
		return
	}
	p, err := c.e.mux.UDPPath(o.LocalAddr, c.round.on.Local.Port(), c.round.on.Remote)
	if err != nil {
		c.failRung(err)
		return
	}
	c.proceed(p)
}

func (c *control) dialTCP(remote netip.AddrPort) {
	id := c.roundID
	if len(c.round.attempts) == 0 { // otherwise the fallback was told
		c.tell(event.Event{Level: event.Info, Path: c.round.on, Text: fmt.Sprintf("connection %q: opening a TCP connection to %s", c.conn.Name, remote)})
	}
	c.dial = c.e.dial(c.home, c.oriented.LocalAddr, remote, c.conn.Retransmit.Timeout, func(p path.Path, err error) {
		switch {
		case id != c.roundID || c.phase != phaseNegotiating:
			c.e.abandon(p, err)
		case err != nil:
			c.dial = nil
			c.failRung(fmt.Errorf("%w; the peer must listen there (listen-tcp= of its config setup), and no firewall be in between; here %s and %s decide",
				err, c.conn.Where("enable-tcp"), c.wherePort()))
		default:
			c.dial = nil
			c.proceed(p)
		}
	})
}

// wherePort names the line that sets the peer's port of TCP.
func (c *control) wherePort() string {
	if c.conn.TCP.RemotePort == 0 && c.oriented.Remote.IKEPort != 0 {
		return c.oriented.WhereEnd(false, "ikeport")
	}
	return c.conn.Where("tcp-remoteport")
}

// failRung notes that a rung has no path at all, and tries the next.
func (c *control) failRung(err error) {
	why := event.Close{Reason: event.ReasonPathFailed, Detail: err.Error()}
	c.tell(event.Event{Level: event.Warn, Kind: event.KindPathLost, Path: c.round.on, Text: fmt.Sprintf("connection %q: %s: %v", c.conn.Name, c.round.on.Peer(), err)})
	c.record(why)
	c.climb(ladder.NoAnswer)
}

// proceed lets the IKE SA begin (again) on a path.
func (c *control) proceed(p path.Path) {
	s, a := c.home, c.attempt
	c.round.on = p
	c.publish(func(st *ConnectionStatus) { st.Path = p })
	if a == nil {
		c.initiate(p)
		return
	}
	if err := s.renew(a); err != nil {
		c.failRung(err)
		return
	}
	if p.Kind.Stream() {
		s.ownStream(a, p)
	}
	a.began = c.round.began
	s.step(a, machine.PathReady{Path: p, SPI: a.spi})
}

func (c *control) initiate(p path.Path) {
	s := c.home
	a, rand, err := s.newSA(true, c, p)
	if err != nil {
		c.failRung(err)
		return
	}
	children := make([]int, len(c.conn.Children))
	for i := range children {
		children[i] = i
	}
	a.m = c.e.make.initiator(c.e.machineConfig(a.spi, rand), c.oriented, children)
	s.add(a)
	c.attempt = a
	c.sas++
	if p.Kind.Stream() {
		s.ownStream(a, p)
	}
	s.step(a, machine.Start{Path: p, Packet: c.demand.packetFor(children[0])})
}

// needPath answers a machine whose path gave no answer. Only silence and failed paths are cured by another carrier: a peer that has refused us over UDP
// would refuse us over TCP.
func (c *control) needPath(ef machine.NeedPath) {
	why := event.Close{Reason: event.ReasonTimeout}
	if ef.Why != nil {
		why = *ef.Why
	}
	c.record(why)
	switch {
	case c.phase != phaseNegotiating:
		c.exhausted()
	case why.Reason == event.ReasonTimeout || why.Reason == event.ReasonPathFailed:
		c.climb(ladder.NoAnswer)
	default:
		c.climb(ladder.Refused)
	}
}

// record notes the outcome of the rung in work.
func (c *control) record(why event.Close) {
	if !c.round.open {
		return
	}
	c.round.open = false
	if c.round.hint != nil && why.Reason == event.ReasonTimeout {
		why.Detail += "; " + c.round.hint.Error()
	}
	c.e.counters.handshake(true, c.round.on.Kind, why.Reason)
	c.round.attempts = append(c.round.attempts, Attempt{Path: c.round.on, Close: why, Took: time.Since(c.round.began)})
}

// exhausted ends the round when no rung is left: the IKE SA closes, and its end ends the round.
func (c *control) exhausted() {
	if c.attempt == nil {
		c.roundFailed()
		return
	}
	err := errors.New("no rung of the ladder is left")
	if n := len(c.round.attempts); n > 0 {
		err = errors.New(c.round.attempts[n-1].Close.Error())
	}
	c.home.step(c.attempt, machine.NoPath{Err: err})
}

// roundFailed tells those who waited what each rung answered, and plans the revival.
func (c *control) roundFailed() {
	err := &UpError{Conn: c.conn.Name, Attempts: c.round.attempts}
	for _, w := range c.e.shares.leave(c) {
		w.c.home.box.post(func() { w.c.leaderFailed(w.round, err.Attempts) })
	}
	if c.triesOther() {
		return
	}
	c.demand.failed()
	c.publish(func(s *ConnectionStatus) { s.LastError = err.Error() })
	c.e.counters.roundsFailed.Add(1)
	if !c.wanted || c.e.closing.Load() {
		c.finishUps(err)
		c.set(phaseDown)
		c.base(nil)
		return
	}
	why := "every attempt failed, as told above" // the whole of err is in the answer to `up` and in the status
	switch {
	case c.refused:
		c.idle(c.conn.Failure, nil)
		why = c.without.Error()
	case c.oriented == nil:
		c.idle(c.conn.Negotiation, nil) // nobody has been asked yet who could have refused
	default:
		c.idle(c.conn.Failure, nil)
	}
	c.revive(c.round.wait, why)
	c.finishUps(err)
}

// leaderFailed ends a round that waited for the IKE SA of another connection: the same would have come of its own.
func (c *control) leaderFailed(round int, attempts []Attempt) {
	if round != c.roundID || c.phase != phaseNegotiating {
		return
	}
	c.round.attempts = slices.Clone(attempts)
	c.round.wait = c.reviveWait()
	c.roundFailed()
}

// revive plans the next round.
func (c *control) revive(delay time.Duration, why string) {
	c.set(phaseWaiting)
	c.publish(func(s *ConnectionStatus) { s.NextTry = time.Now().Add(delay) })
	c.home.alarms.set(c, time.Since(c.e.epoch)+delay)
	when := "at once"
	if delay >= 100*time.Millisecond {
		when = "in " + delay.Round(100*time.Millisecond).String()
	}
	c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q must remain up: next attempt %s (%s)", c.conn.Name, when, why)})
}

// lasting is how long a Child SA must have lived to count as a success for the back-off.
const lasting = 10 * time.Second

// saBound counts an IKE SA that a peer has initiated, or that was another connection's alone.
func (c *control) saBound() { c.sas++ }

// saLeft takes note that the connection has nothing any more in an IKE SA that others use.
func (c *control) saLeft(a *sa) {
	c.sas--
	c.rekeyLost(a)
	if !c.wanted && (c.sas == 0 && c.phase != phaseNegotiating || len(c.downs) > 0) {
		c.settle()
	}
}

// saGone takes note of the end of an IKE SA of this connection.
func (c *control) saGone(a *sa, why event.Close) {
	c.sas--
	c.rekeyLost(a)
	mine := a == c.attempt
	if mine {
		c.attempt = nil
		if c.round.open && c.phase == phaseNegotiating {
			c.round.wait = c.ladder.Failed(ladder.Refused).Wait
		}
		c.record(why)
	}
	switch {
	case !c.wanted && c.sas == 0 && c.phase != phaseNegotiating, !c.wanted && len(c.downs) > 0:
		c.settle()
	case mine && c.phase == phaseNegotiating:
		c.roundFailed()
	default:
		c.lostWhileAsking(a, why)
	}
}

// dial opens a TCP connection on a goroutine of its own and calls back in s. The function returned gives up.
func (e *Engine) dial(s *shard, local netip.Addr, remote netip.AddrPort, timeout time.Duration, done func(path.Path, error)) context.CancelFunc {
	if timeout <= 0 {
		timeout = defaultDialTimeout
	}
	ctx, cancel := context.WithTimeout(e.life, timeout)
	e.streams.dialing()
	go func() {
		defer cancel()
		p, err := e.mux.Dial(ctx, local, remote)
		err = e.streams.dialed(p, err)
		call := func() {
			if err == nil && !e.streams.alive(p) {
				err = errLostEarly // nobody owned it, so that nobody else hears of it
			}
			done(p, err)
		}
		if !s.box.post(call) {
			e.abandon(p, err)
		}
	}()
	return cancel
}

var errLostEarly = errors.New("the peer closed the connection as soon as it was open")

const defaultDialTimeout = 30 * time.Second

// abandon closes a new stream that nobody wants any more.
func (e *Engine) abandon(p path.Path, err error) {
	if err == nil {
		e.streams.close(p.Generation)
		e.mux.CloseStream(p)
	}
}

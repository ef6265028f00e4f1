package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
)

// pair is the two SAs of a Child SA. The worker's.
type pair struct {
	sa      kernel.SAPair // without its keys
	route   *route
	in, out message.SAID
	// sends: the outbound SA is in the kernel. A pair that stands by has it here until its turn comes: the kernel prefers the newest SA.
	sends   bool
	standby *message.SA

	held bool // so it does until it is moved, as Endpoints.Held says

	told, hard bool // SoftExpire, HardExpire were sent
	mapping    netip.AddrPort
	mappingAt  time.Time
}

func (p *pair) spi() kernel.SPI    { return p.sa.In.SPI }
func (p *pair) transport() bool    { return p.sa.Transport }
func (p *pair) carrier() path.Kind { return p.sa.Endpoints.Path.Kind }
func (p *pair) local() netip.Addr  { return p.sa.Endpoints.Path.Local.Addr().Unmap() }
func (p *pair) remote() netip.Addr { return p.sa.Endpoints.Path.Remote.Addr().Unmap() }
func (p *pair) outID() outID       { return outID{p.out.Dst, p.out.SPI} }

// template is what the policies of the pair want of an SA.
func (p *pair) template(d message.Direction, reqid uint32) *message.Template {
	if p.transport() {
		return &message.Template{Reqid: reqid, Mode: message.Transport}
	}
	t := &message.Template{Src: p.local(), Dst: p.remote(), Reqid: reqid, Mode: message.Tunnel}
	if d != message.Out {
		t.Src, t.Dst = t.Dst, t.Src
	}
	return t
}

// reserve has the kernel find a free SPI. The kernel forgets it after half a minute, this datapath does not.
func (w *worker) reserve(e kernel.Endpoints) (kernel.SPI, error) {
	m := message.AllocSPI{
		Src: e.Path.Remote.Addr().Unmap(), Dst: e.Path.Local.Addr().Unmap(), Reqid: w.share.firstReqid() + reservation, Mode: message.Tunnel,
		Min: uint32(w.d.cfg.MinSPI), Max: uint32(w.d.cfg.MaxSPI),
	}
	if !m.Src.IsValid() || !m.Dst.IsValid() {
		return 0, errors.New("reserve SPI: the path of the IKE SA is not known")
	}
	if w.d.directed {
		m.Direction = message.Inbound
	}
	if span := uint64(w.d.cfg.MaxSPI-w.d.cfg.MinSPI) + 1; uint64(len(w.reserved)+len(w.pairs))*2 >= span {
		return 0, fmt.Errorf("reserve SPI: more than half of the %d SPIs of this datapath are in use", span)
	}
	for {
		b, err := w.d.conn.get(message.ALLOCSPI, &m)
		if err != nil {
			return 0, refused(fmt.Sprintf("reserve an SPI for packets to %s", m.Dst), err)
		}
		sa, err := message.ParseSA(b)
		if err != nil {
			return 0, fmt.Errorf("reserve SPI: %w", err)
		}
		spi := kernel.SPI(sa.SPI)
		if _, held := w.reserved[spi]; held || w.pairs[spi] != nil { // on another address of this host, or forgotten by the kernel
			if err := w.deleteSA(sa.ID(), spi); err != nil {
				return 0, err
			}
			continue
		}
		w.reserved[spi] = sa.ID()
		return spi, nil
	}
}

func (w *worker) install(sa kernel.SAPair) error {
	fail := func(err error) error {
		return fmt.Errorf("install SA %#08x of %s: %w", uint32(sa.In.SPI), sa.Policy, err)
	}
	r, p := w.routes[sa.Policy], &pair{sa: sa}
	p.route = r
	switch {
	case r == nil || !r.routed:
		return fail(errors.New("the policy is not routed"))
	case sa.In.SPI < 256 || sa.Out.SPI < 256:
		return fail(fmt.Errorf("SPIs below 256 are reserved (RFC 4303 2.1), found in %#x and out %#x", uint32(sa.In.SPI), uint32(sa.Out.SPI)))
	case w.pairs[sa.In.SPI] != nil:
		return fail(errors.New("the SPI is in use"))
	case len(sa.Local) == 0 || len(sa.Remote) == 0:
		return fail(errors.New("selectors are missing"))
	}
	if err := w.carries(p.carrier()); err != nil {
		return fail(err)
	}
	in, err := w.inboundSA(p)
	if err != nil {
		return fail(err)
	}
	out, err := w.outboundSA(p)
	if err != nil {
		return fail(err)
	}
	p.in, p.out = in.ID(), out.ID()
	p.sa.In.EncrKey, p.sa.In.IntegKey, p.sa.Out.EncrKey, p.sa.Out.IntegKey = nil, nil, nil, nil
	if err := w.addInbound(p, in); err != nil {
		return fail(err)
	}
	if sa.Standby && len(r.pairs) > 0 {
		p.standby = out
		r.pairs = append(r.pairs, p)
	} else if err := w.takeLead(p, out); err != nil {
		return fail(err)
	}
	w.pairs[p.spi()] = p
	w.count(p)
	if err := w.forgetAcquires(r); err != nil { // what has waited has its SA
		w.d.cfg.Notice(fail(err).Error())
	}
	return nil
}

// takeLead makes a new pair the one that outbound packets take. The first of a policy lets in before it sends: packets wait, and what answers them must find the policies
// for what comes in. They go as soon as there is an SA that fits, even before its policy is put anew.
func (w *worker) takeLead(p *pair, out *message.SA) error {
	r := p.route
	p.held, p.standby = r.head() == nil, out
	if !p.held {
		if err := w.addOutbound(p, out); err != nil {
			return errors.Join(err, w.deleteSA(p.in, p.spi()))
		}
	}
	r.pairs = append([]*pair{p}, r.pairs...)
	err := errors.Join(w.settle(r), w.sources.use(&r.policy, p.remote()))
	if err == nil && p.held && !p.sa.Endpoints.Held {
		err = errors.Join(w.release(p), w.settle(r))
	}
	if err != nil {
		r.pairs = r.pairs[1:]
		return errors.Join(err, w.settle(r), w.sources.use(&r.policy, r.peer()), w.deletePair(p))
	}
	return nil
}

// release lets packets out by a pair that was held. With an error it is held as before.
func (w *worker) release(p *pair) error {
	switch {
	case !p.held:
		return nil
	case p.route.pairs[0] != p: // a newer one is there
		p.held = false
		return nil
	}
	return w.addOutbound(p, p.standby)
}

// carries says why nothing can be sent by a carrier.
func (w *worker) carries(k path.Kind) error {
	switch {
	case k == path.UDP && !w.d.cfg.UDP, k == path.TCP && !w.d.cfg.TCP, k == path.ESP && !w.d.cfg.ESP:
		return fmt.Errorf("this kernel cannot carry %s for this daemon (see ikectl doctor); %s", k.Encapsulation(), elsewhere)
	}
	return nil
}

// inboundSA and outboundSA are the SAs as the kernel is to have them.
func (w *worker) inboundSA(p *pair) (*message.SA, error) {
	m, err := w.direction(p, p.sa.In)
	if err != nil {
		return nil, err
	}
	m.Src, m.Dst = p.remote(), p.local()
	ends := p.sa.Endpoints.Path
	m.Encap = encapsulation(ends.Kind, ends.Remote.Port(), ends.Local.Port())
	m.Selector = p.saSelector(true)
	if w.d.directed { // and then no flags that are for what is sent
		m.Direction = message.Inbound
		m.Flags &^= message.FlagNoPMTUDisc
		m.Extra &^= message.ExtraDontEncapDSCP
	}
	return m, nil
}

func (w *worker) outboundSA(p *pair) (*message.SA, error) {
	m, err := w.direction(p, p.sa.Out)
	if err != nil {
		return nil, err
	}
	m.Src, m.Dst = p.local(), p.remote()
	ends := p.sa.Endpoints.Path
	m.Encap = encapsulation(ends.Kind, ends.Local.Port(), ends.Remote.Port())
	m.Selector = p.saSelector(false)
	if m.OutputMark = message.Mark(w.d.cfg.OutputMark); m.OutputMark == (message.Mark{}) && m.IfID != 0 {
		m.OutputMark = message.Mark{Value: m.IfID, Mask: 0xffffffff}
	}
	if w.d.directed { // no window on what is sent (Linux from 6.10 on), and no flag for what is received
		m.Direction, m.Replay.Window = message.Outbound, 0
		m.Flags &^= message.FlagDecapDSCP
	} else if m.Replay.Extended {
		m.Replay.Window = max(m.Replay.Window, 1)
	}
	// Without ESN the sequence numbers end at 2^32-1, which the kernel does not tell: a limit tells it.
	if p.sa.Out.Suite.SN != iana.SN_ESN {
		m.Limits.HardPackets = atMost(m.Limits.HardPackets, lastSequence)
		m.Limits.SoftPackets = atMost(m.Limits.SoftPackets, lastSequence-lastSequence/8)
	}
	return m, nil
}

const lastSequence = 1<<32 - 1

func atMost(limit, most uint64) uint64 {
	if limit == 0 {
		return most
	}
	return min(limit, most)
}

// direction is what both SAs of a pair have in common.
func (w *worker) direction(p *pair, sa kernel.SA) (*message.SA, error) {
	m := &message.SA{SPI: uint32(sa.SPI), Reqid: p.route.reqid, Limits: message.Limits(p.sa.Limits), IfID: p.route.policy.Interface.ID}
	if _, err := algorithms(m, sa); err != nil {
		return nil, err
	}
	m.Mode = message.Transport
	if !p.transport() {
		m.Mode, m.Flags = message.Tunnel, message.FlagAFUnspec
	}
	for _, f := range []struct {
		set bool
		bit uint8
	}{
		{p.sa.Flags.NoECN, message.FlagNoECN},
		{p.sa.Flags.DecapDSCP, message.FlagDecapDSCP},
		{p.sa.Flags.NoPMTUDisc, message.FlagNoPMTUDisc},
		{sa.Suite.SN == iana.SN_ESN, message.FlagESN},
	} {
		if f.set {
			m.Flags |= f.bit
		}
	}
	if p.sa.Flags.NoEncapDSCP {
		m.Extra |= message.ExtraDontEncapDSCP
	}
	// A larger window than the kernel has would only spare packets that come very late.
	m.Replay.Window = min(sa.ReplayWindow, message.MaxWindow)
	m.Replay.Extended = m.Replay.Window > 32 || m.Flags&message.FlagESN != 0
	return m, nil
}

// saSelector is the selector of an SA in transport mode: its packets, if one selector can say which they are, else the two hosts. In tunnel mode policies say
// it.
func (p *pair) saSelector(in bool) message.Selector {
	if !p.transport() {
		return message.Selector{}
	}
	all, err := selectors(p.sa.Local, p.sa.Remote)
	if err != nil || len(all) == 0 {
		return message.Selector{}
	}
	s := all[0]
	if len(all) > 1 {
		s = message.Selector{Src: netip.PrefixFrom(p.local(), p.local().BitLen()), Dst: netip.PrefixFrom(p.remote(), p.remote().BitLen())}
	}
	if in {
		return reversed(s)
	}
	return s
}

func encapsulation(k path.Kind, src, dst uint16) message.Encap {
	switch k {
	case path.UDP:
		return message.Encap{Type: message.ESPinUDP, SrcPort: src, DstPort: dst}
	case path.TCP:
		return message.Encap{Type: message.ESPinTCP, SrcPort: src, DstPort: dst}
	case path.ESP:
	}
	return message.Encap{}
}

// addInbound completes the SA that ReserveSPI made, or adds it where that has another address, or the kernel has forgotten it.
func (w *worker) addInbound(p *pair, m *message.SA) error {
	err := error(unix.ESRCH)
	if id, ok := w.reserved[p.spi()]; ok {
		if id.Dst == m.Dst && id.Mark == m.Mark {
			err = w.d.conn.do(message.UPDSA, &message.NewSA{SA: *m})
		}
		if err == nil {
			delete(w.reserved, p.spi())
			return nil
		}
		if errors.Is(err, unix.ESRCH) {
			if derr := w.deleteSA(id, p.spi()); derr != nil {
				return derr
			}
			delete(w.reserved, p.spi())
		}
	}
	if errors.Is(err, unix.ESRCH) {
		err = w.d.conn.do(message.NEWSA, &message.NewSA{SA: *m})
	}
	return w.refusedSA(p, "inbound", m, err)
}

func (w *worker) addOutbound(p *pair, m *message.SA) error {
	if err := w.d.conn.do(message.NEWSA, &message.NewSA{SA: *m}); err != nil {
		return w.refusedSA(p, "outbound", m, err)
	}
	p.sends, p.held, p.standby, p.route.sprung = true, false, nil, false
	w.outbound[p.outID()] = p
	return nil
}

func (w *worker) refusedSA(p *pair, what string, m *message.SA, err error) error {
	if err == nil {
		return nil
	}
	names := m.AEAD.Name
	if names == "" {
		names = m.Cipher.Name + " with " + m.MAC.Name
	}
	if errors.Is(err, unix.EEXIST) {
		what += fmt.Sprintf(" (SPI %#08x to %s)", m.SPI, m.Dst)
	}
	return refusedSA(what, names, m.Dst.Is6(), p.carrier(), err)
}

// remove takes SAs away. A pair that stood by gets its turn before the last older one goes.
func (w *worker) remove(spis []kernel.SPI) error {
	var errs []error
	for _, spi := range spis {
		if id, ok := w.reserved[spi]; ok {
			errs = append(errs, w.deleteSA(id, spi))
			delete(w.reserved, spi)
		}
		if p := w.pairs[spi]; p != nil {
			errs = append(errs, w.removePair(p))
		}
	}
	return errors.Join(errs...)
}

func (w *worker) removePair(p *pair) error {
	r := p.route
	r.pairs = slices.DeleteFunc(r.pairs, func(o *pair) bool { return o == p })
	var errs []error
	if len(r.pairs) > 0 && !r.pairs[0].sends {
		next := r.pairs[0]
		if err := w.addOutbound(next, next.standby); err != nil {
			errs = append(errs, fmt.Errorf("SA %#08x of %s, which was to follow %#08x: %w", uint32(next.spi()), r.policy.ID, uint32(p.spi()), err))
			w.hardExpire(next)
		}
		w.count(next)
	}
	// The policies first: what they still send to this pair is sealed, then held.
	errs = append(errs, w.settle(r), w.deletePair(p))
	delete(w.pairs, p.spi())
	w.forgetCount(p.spi())
	if len(r.pairs) == 0 && !r.routed { // unrouted before
		delete(w.routes, r.policy.ID)
		delete(w.byReqid, r.reqid)
		w.d.reqids.Delete(r.policy.ID)
		w.share.freeReqid(r.reqid)
	}
	return errors.Join(errs...)
}

// deletePair takes the SAs of a pair out of the kernel.
func (w *worker) deletePair(p *pair) error {
	var err error
	if p.sends {
		err = w.deleteSA(p.out, kernel.SPI(p.out.SPI))
		delete(w.outbound, p.outID())
	}
	p.sends, p.standby = false, nil
	return errors.Join(err, w.deleteSA(p.in, p.spi()))
}

// deleteSA removes an SA; one that is gone is fine.
func (w *worker) deleteSA(id message.SAID, spi kernel.SPI) error {
	err := w.d.conn.do(message.DELSA, &message.DelSA{ID: id})
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return refused(fmt.Sprintf("remove SA %#08x to %s", uint32(spi), id.Dst), err)
}

// knowsDirection finds out whether the kernel knows the direction of an SA: it says so in its answer. It finds out too whether the daemon may change anything.
func knowsDirection(c *conn, reqid uint32) (bool, error) {
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	b, err := c.get(message.ALLOCSPI, &message.AllocSPI{Src: here, Dst: here, Reqid: reqid, Min: 0x1000, Max: 0xfffffff, Direction: message.Inbound})
	if err != nil {
		return false, refused("try to reserve an SPI", err)
	}
	sa, err := message.ParseSA(b)
	if err != nil {
		return false, err
	}
	return sa.Direction == message.Inbound, refused("remove the SA that was tried", c.do(message.DELSA, &message.DelSA{ID: sa.ID()}))
}

package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/path"
)

// move changes the addresses and ports of a pair. Where only ports change the SAs are changed in place. Otherwise MIGRATE moves SAs and policies, if this kernel
// has it, and the policy has this one pair: MIGRATE takes the first SA that it finds. Else the SAs are made anew with their sequence numbers.
func (w *worker) move(spi kernel.SPI, e kernel.Endpoints) error {
	fail := func(err error) error { return fmt.Errorf("move SA %#08x to %s: %w", uint32(spi), e.Path, err) }
	p := w.pairs[spi]
	switch {
	case p == nil:
		return fail(errors.New("no such SA"))
	case p.carrier() != e.Path.Kind:
		return fail(fmt.Errorf("it is %s: %w", p.carrier().Encapsulation(), kernel.ErrCarrier))
	case !e.Path.Local.IsValid() || !e.Path.Remote.IsValid():
		return fail(errors.New("the path is not complete"))
	}
	old := p.sa.Endpoints
	to := path.Path{Local: e.Path.Local, Remote: e.Path.Remote, Kind: e.Path.Kind, Generation: e.Path.Generation}
	same := p.local() == to.Local.Addr().Unmap() && p.remote() == to.Remote.Addr().Unmap()
	var err error
	switch {
	case to == old.Path:
	case same:
		err = w.movePorts(p, to)
	case !p.transport() && p.sends && len(p.route.pairs) == 1 && p.route.routed && !p.route.policy.InboundOnly && w.migrate(p, to) == nil:
	default:
		err = w.replaceSAs(p, to)
	}
	if err != nil {
		p.sa.Endpoints = old
		return fail(err)
	}
	p.sa.Endpoints = kernel.Endpoints{Path: to}
	if !e.Held {
		err = w.release(p)
	}
	err = errors.Join(err, w.settle(p.route))
	w.count(p)
	if err != nil {
		return fail(err)
	}
	return nil
}

// movePorts changes the ports of the encapsulation in place. UPDSA changes the limits too, so they are sent as they are.
func (w *worker) movePorts(p *pair, to path.Path) error {
	if to.Kind == path.ESP {
		return nil
	}
	change := func(id message.SAID, src, dst uint16) error {
		sa, err := w.read(id)
		if err != nil {
			return err
		}
		sa.Encap.SrcPort, sa.Encap.DstPort = src, dst
		sa.Current = message.Current{} // it goes on counting
		return refused("change the ports", w.d.conn.do(message.UPDSA, &message.NewSA{SA: *sa}))
	}
	if err := change(p.in, to.Remote.Port(), to.Local.Port()); err != nil {
		return err
	}
	if p.standby != nil {
		p.standby.Encap.SrcPort, p.standby.Encap.DstPort = to.Local.Port(), to.Remote.Port()
	}
	if !p.sends {
		return nil
	}
	return change(p.out, to.Local.Port(), to.Remote.Port())
}

func (w *worker) read(id message.SAID) (*message.SA, error) {
	b, err := w.d.conn.get(message.GETSA, &message.GetSA{ID: id})
	if err != nil {
		return nil, refused(fmt.Sprintf("read SA %#08x to %s", id.SPI, id.Dst), err)
	}
	return message.ParseSA(b)
}

// migrate has the kernel move SAs and policies, one direction at a time: with an error the SAs that have moved are known where they are now, and replaceSAs moves
// the others.
func (w *worker) migrate(p *pair, to path.Path) error {
	before := w.d.Usage(p.spi())[0]
	r := p.route
	oldSrc, oldDst, newSrc, newDst := p.local(), p.remote(), to.Local.Addr().Unmap(), to.Remote.Addr().Unmap()
	for _, s := range r.selectors {
		for _, d := range []message.Direction{message.Out, message.In, message.Forward} {
			m := message.Migrate{
				Selector: s, Direction: d, IfID: r.policy.Interface.ID, OldSrc: oldSrc, OldDst: oldDst, NewSrc: newSrc, NewDst: newDst, Reqid: r.reqid,
				Encap: encapsulation(to.Kind, to.Local.Port(), to.Remote.Port()),
			}
			if d != message.Out {
				m.Selector, m.OldSrc, m.OldDst, m.NewSrc, m.NewDst = reversed(s), oldDst, oldSrc, newDst, newSrc
				m.Encap = encapsulation(to.Kind, to.Remote.Port(), to.Local.Port())
			}
			if err := w.d.conn.do(message.MIGRATE, &m); err != nil {
				return err
			}
			switch d { // the first message of a direction has moved its SA
			case message.Out:
				delete(w.outbound, p.outID())
				p.out.Src, p.out.Dst = newSrc, newDst
				w.outbound[p.outID()] = p
			case message.In:
				p.in.Src, p.in.Dst = newDst, newSrc
			case message.Forward:
			}
		}
	}
	w.carryCount(p, before)
	return nil
}

// carryCount remembers the counters of SAs that are no more, as far as their successors do not go on with them.
func (w *worker) carryCount(p *pair, before kernel.Usage) {
	w.count(p)
	w.d.mu.Lock()
	c := w.d.usage[p.spi()]
	w.d.mu.Unlock()
	c.before = kernel.Usage{}
	now := w.d.read(p.spi(), c)
	if now.InPackets < before.InPackets || now.OutPackets < before.OutPackets {
		c.before = before
	}
	w.d.mu.Lock()
	w.d.usage[p.spi()] = c
	w.d.mu.Unlock()
}

// sequenceGap is left out when an outbound SA is made anew: between reading its sequence number and removing it, it goes on sending. A number must not be used
// again (RFC 4303 3.3.3), and a gap harms nobody.
const sequenceGap = 1 << 16

// replaceSAs makes the SAs of a pair anew elsewhere.
func (w *worker) replaceSAs(p *pair, to path.Path) error {
	newLocal, newRemote := to.Local.Addr().Unmap(), to.Remote.Addr().Unmap()
	in, err := w.replaceSA(p, p.in, func(sa *message.SA) {
		sa.Src, sa.Dst = newRemote, newLocal
		sa.Encap = encapsulation(to.Kind, to.Remote.Port(), to.Local.Port())
	})
	if err != nil {
		return err
	}
	p.in = in
	change := func(sa *message.SA) {
		sa.Src, sa.Dst = newLocal, newRemote
		sa.Encap = encapsulation(to.Kind, to.Local.Port(), to.Remote.Port())
		if sa.Replay.Out += sequenceGap; sa.Flags&message.FlagESN == 0 {
			sa.Replay.Out = min(sa.Replay.Out, lastSequence) // where the kernel sends nothing more, rather than the same numbers again
		}
	}
	if p.standby != nil {
		change(p.standby)
		p.standby.Replay.Out = 0
		p.out.Src, p.out.Dst = newLocal, newRemote
	}
	if !p.sends {
		return nil
	}
	delete(w.outbound, p.outID())
	out, err := w.replaceSA(p, p.out, change)
	if err == nil {
		p.out = out
	}
	w.outbound[p.outID()] = p
	return err
}

// replaceSA makes one SA anew, with its keys, sequence numbers, window and counters. If the kernel refuses it, the old one is put back.
func (w *worker) replaceSA(p *pair, id message.SAID, change func(*message.SA)) (message.SAID, error) {
	old, err := w.read(id)
	if err != nil {
		return id, err
	}
	// In lockdown the kernel shows zeros in place of keys.
	if !slices.ContainsFunc(slices.Concat(old.AEAD.Key, old.Cipher.Key, old.MAC.Key), func(b byte) bool { return b != 0 }) {
		return id, fmt.Errorf("this kernel (in lockdown) does not show the keys of SAs, and cannot move them by itself: %w", kernel.ErrCarrier)
	}
	next := *old
	change(&next)
	if err := w.deleteSA(id, p.spi()); err != nil {
		return id, err
	}
	if err := w.d.conn.do(message.NEWSA, &message.NewSA{SA: next}); err != nil {
		old.Replay = next.Replay // with its gap
		back := w.d.conn.do(message.NEWSA, &message.NewSA{SA: *old})
		return id, errors.Join(w.refusedSA(p, "moved", &next, err), refused("put the SA back", back))
	}
	return next.ID(), nil
}

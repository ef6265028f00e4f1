package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// route is a policy as it was asked for, with its SAs. The worker's.
type route struct {
	policy    kernel.Policy
	routed    bool // Route was asked for, and Unroute not yet
	sprung    bool // a trap, or what has followed it until there is an SA: the packets that it has caught wait
	reqid     uint32
	selectors []message.Selector // of outbound packets
	spared    []message.Selector
	pairs     []*pair // the first is the one that outbound packets take
	acquires  []acquired
}

// acquired is an SA without keys that the kernel keeps for a packet. As long as it is there, it does not ask again for the same addresses.
type acquired struct {
	src, dst message.SAID // only their addresses
	seq      uint32
	mark     message.Mark
	ifID     uint32
	mode     message.Mode
}

func (w *worker) route(p kernel.Policy) error {
	fail := func(err error) error { return fmt.Errorf("route %s: %w", p.ID, err) }
	if len(p.Local) == 0 || len(p.Remote) == 0 {
		return fail(errors.New("selectors are missing"))
	}
	all, err := selectors(p.Local, p.Remote)
	if err != nil {
		return fail(err)
	}
	r := w.routes[p.ID]
	if r == nil {
		n, err := w.share.reqid()
		if err != nil {
			return fail(err)
		}
		r = &route{reqid: n}
	}
	next := *r
	next.policy, next.routed, next.selectors, next.spared = p, true, all, spared(all)
	next.sprung = p.Action == kernel.Trap || r.sprung && r.routed && p.Action != kernel.Pass && p.Action != kernel.Reject
	err = w.lead(&p, r)
	if err == nil {
		err = w.spd.put(p.ID, next.wanted())
	}
	if err != nil {
		if r.routed {
			err = errors.Join(err, w.lead(&r.policy, r))
		} else {
			err = errors.Join(err, w.links.drop(p.ID), w.sources.drop(p.ID))
		}
		w.freeUnused(r)
		return fail(err)
	}
	*r = next
	w.routes[p.ID], w.byReqid[r.reqid] = r, r
	w.d.reqids.Store(p.ID, r.reqid)
	if err := w.forgetAcquires(r); err != nil { // the policy is in place, only asks a little later
		w.d.cfg.Notice(fail(err).Error())
	}
	return nil
}

// lead makes the interface and the routes of a policy.
func (w *worker) lead(p *kernel.Policy, r *route) error {
	if err := w.links.use(p); err != nil {
		return err
	}
	return w.sources.use(p, r.peer())
}

// peer is where the packets of a route are sent; invalid: nowhere yet.
func (r *route) peer() netip.Addr {
	if len(r.pairs) == 0 {
		return netip.Addr{}
	}
	return r.pairs[0].remote()
}

// freeUnused gives back the reqid of a route that did not come to be.
func (w *worker) freeUnused(r *route) {
	if w.byReqid[r.reqid] == nil {
		w.share.freeReqid(r.reqid)
	}
}

func (w *worker) unroute(id kernel.PolicyID) error {
	r := w.routes[id]
	if r == nil {
		return nil
	}
	r.routed = false
	err := errors.Join(w.spd.put(id, nil), w.links.drop(id), w.sources.drop(id), w.forgetAcquires(r))
	if err != nil {
		err = fmt.Errorf("unroute %s: %w", id, err)
	}
	if len(r.pairs) == 0 {
		delete(w.routes, id)
		delete(w.byReqid, r.reqid)
		w.d.reqids.Delete(r.policy.ID)
		w.share.freeReqid(r.reqid)
	}
	return err
}

// wanted is the kernel's policies for a route in its present state.
//
// With SAs: out, in, and in tunnel mode forward, with a template. Without: out, with a template that no SA fits, so that packets wait for one, and the others
// blocked: what claims to come from the other side in clear is not taken. Drop and reject: all three, blocked; XFRM has one way to refuse.
func (r *route) wanted() (out []wish) {
	directions := []message.Direction{message.In, message.Forward, message.Out} // what waits is sent when out is there, and the answers must be let in
	head, action := r.head(), r.policy.Action
	inward := head
	if len(r.pairs) > 0 && r.pairs[0].held {
		inward = r.pairs[0]
	}
	if inward != nil && (action == kernel.Trap || action == kernel.Hold) {
		action = kernel.Protect
	}
	larval := r.larval()
	for _, s := range r.selectors {
		strength := priority(s)
		if r.policy.Priority > 0 {
			strength = uint32(r.policy.Priority)
		}
		for _, d := range directions {
			p := wish{Policy: r.blank(s, d, strength), led: r.policy.Led}
			switch {
			case r.policy.InboundOnly && action == kernel.Pass && d == message.Out:
				continue
			case r.policy.InboundOnly && action != kernel.Pass && d == message.Out: // allowed
			case r.policy.InboundOnly && action != kernel.Pass && inward == nil:
				continue // no SA that anything could come by
			case action == kernel.Pass:
			case action == kernel.Protect && d == message.Out && head != nil:
				p.Template = head.template(d, r.reqid)
			case action == kernel.Protect && d != message.Out && inward != nil:
				if d == message.Forward && inward.transport() {
					continue
				}
				p.Template = inward.template(d, r.reqid)
			case larval != nil && d == message.Out:
				p.Template, p.larval = larval, true
			default:
				p.Action = message.Block
			}
			out = append(out, p)
		}
	}
	if action == kernel.Pass || r.policy.InboundOnly && inward == nil {
		return out
	}
	for _, s := range r.spared {
		for _, d := range directions {
			p := wish{Policy: r.blank(s, d, 0)}
			p.Priority = r.sparing(s)
			out = append(out, p)
		}
	}
	return out
}

// larval is the template for packets that wait for an SA; nil: they are dropped. With the two ends of the tunnel to come the kernel asks once for all packets, and
// keeps one SA without keys. Where they are not known it asks, and keeps one, for each two addresses: that much only a trap is worth, which is soon another policy.
func (r *route) larval() *message.Template {
	local, remote := r.policy.LocalAddr.Unmap(), r.policy.RemoteAddr.Unmap()
	known := local.IsValid() && remote.IsValid()
	waits := r.policy.Action == kernel.Trap || r.policy.Action == kernel.Hold || r.policy.Action == kernel.Protect
	// Drop is what negotiationshunt= says to the packets that come behind those which a trap has caught. The kernel cannot tell them apart.
	waits = waits || r.policy.Action == kernel.Drop && r.sprung
	switch {
	case waits && known:
		return &message.Template{Src: local, Dst: remote, Reqid: r.reqid, Mode: message.Tunnel}
	case r.policy.Action == kernel.Trap:
		return &message.Template{Reqid: r.reqid, Mode: message.Transport}
	}
	return nil
}

// blank is a policy that allows.
func (r *route) blank(s message.Selector, d message.Direction, strength uint32) message.Policy {
	p := message.Policy{Selector: s, Direction: d, Priority: strength, IfID: r.policy.Interface.ID}
	mark := r.policy.MarkOut
	if d != message.Out {
		p.Selector = reversed(s)
		mark = r.policy.MarkIn
	}
	p.Mark = message.Mark(mark)
	return p
}

// sparing is the priority of what is spared: stronger than the selector that it is cut from, unless priority= leaves no room.
func (r *route) sparing(s message.Selector) uint32 {
	if r.policy.Priority > 0 {
		return uint32(max(r.policy.Priority-1, 1))
	}
	return priority(s)
}

// head is the pair whose outbound SA is in the kernel and that packets take; nil: none.
func (r *route) head() *pair {
	if len(r.pairs) == 0 || !r.pairs[0].sends {
		return nil
	}
	return r.pairs[0]
}

// settle brings the kernel's policies to the route's present state.
func (w *worker) settle(r *route) error {
	if !r.routed {
		return nil // only SAs are left
	}
	return w.spd.put(r.policy.ID, r.wanted())
}

// forgetAcquires removes the SAs without keys that the kernel keeps for packets of a route, so that it asks again.
func (w *worker) forgetAcquires(r *route) error {
	var errs []error
	for _, a := range r.acquires {
		m := message.AllocSPI{
			Src: a.src.Src, Dst: a.dst.Dst, Reqid: r.reqid, Mode: a.mode, Min: uint32(w.d.cfg.MinSPI), Max: uint32(w.d.cfg.MaxSPI), Mark: a.mark, IfID: a.ifID, Seq: a.seq,
		}
		errs = append(errs, forgetAcquire(w.d.conn, m))
	}
	r.acquires = slices.Delete(r.acquires, 0, len(r.acquires))
	return errors.Join(errs...)
}

func forgetAcquire(c *conn, m message.AllocSPI) error {
	b, err := c.get(message.ALLOCSPI, &m)
	if err == nil {
		var sa *message.SA
		if sa, err = message.ParseSA(b); err == nil {
			err = c.do(message.DELSA, &message.DelSA{ID: sa.ID()})
		}
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
		return refused("remove the SA without keys of a packet that waited", err)
	}
	return nil
}

// forgetKeyless removes the SAs without keys that the kernel keeps for packets of those reqids of this share, also where no message has told of them.
func (w *worker) forgetKeyless(of func(reqid uint32) bool) error {
	sas, _, err := inKernel(w.d.conn)
	if err != nil {
		return err
	}
	l := w.share.left(sas, nil)
	l.sas = slices.DeleteFunc(l.sas, func(sa *message.SA) bool { return sa.SPI != 0 || !of(sa.Reqid) })
	_, err = l.removeSAs(w.d.conn)
	return err
}

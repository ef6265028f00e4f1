package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// request is what a shard waits for from the datapath.
type request struct {
	fn func(kernel.Done)
}

// request makes the number of a request of this shard, so that its completion finds back. A nil fn does not care.
func (s *shard) request(r request) kernel.Request {
	s.lastReq++
	id := kernel.Request(s.lastReq<<8 | uint64(s.index))
	if r.fn != nil {
		s.requests[id] = r
	}
	return id
}

// KernelEvent takes the datapath's events. It never blocks.
func (e *Engine) KernelEvent(ev kernel.Event) {
	switch ev := ev.(type) {
	case kernel.Done:
		i := int(ev.Request & 0xff)
		if i >= len(e.shards) {
			return
		}
		s := e.shards[i]
		s.box.post(func() {
			if r, ok := s.requests[ev.Request]; ok {
				delete(s.requests, ev.Request)
				r.fn(ev)
			}
		})
	case kernel.Acquire:
		if c := e.policies.control(ev.Policy); c != nil {
			c.home.box.post(func() { c.acquire(ev) })
		}
	case kernel.SoftExpire:
		e.forChild(ev.SPI, func(s *shard, a *sa, c *child) {
			s.emit(a, event.Event{Level: event.Info, Text: fmt.Sprintf("the Child SA with inbound SPI %#08x comes to a limit (sequence numbers, ipsec-max-bytes=, "+
				"ipsec-max-packets=): it is rekeyed", uint32(c.spi))})
			s.step(a, machine.RekeyChild{Child: c.id})
		})
	case kernel.HardExpire:
		e.forChild(ev.SPI, func(s *shard, a *sa, c *child) { s.step(a, machine.CloseChild{Child: c.id}) })
	case kernel.PeerMoved:
		e.forChild(ev.SPI, func(s *shard, a *sa, c *child) { s.peerMoved(a, c, ev.Path) })
	}
}

// peerMoved follows a peer behind a NAT whose ESP comes from another address or port now (RFC 7296 2.23). The IKE SA itself follows with the peer's next IKE
// message. A host behind a NAT does not follow, nor does the initiator, whose paths come from its connection. Only ESP in UDP moves, and only from UDP: plain ESP
// passes no NAT, and a peer may leave out the UDP or put it in without having moved.
func (s *shard) peerMoved(a *sa, c *child, p path.Path) {
	if a.initiator || !a.established || !c.installed || p.Kind != path.UDP || c.carrier != path.UDP {
		return
	}
	if snap := a.m.Snapshot(); snap.NATRemote && !snap.NATLocal {
		s.e.dp.Move(s.request(request{}), c.spi, kernel.Endpoints{Path: p, Backend: a.backend()})
	}
}

// forChild calls f in the shard that has the Child SA with this inbound SPI.
func (e *Engine) forChild(spi kernel.SPI, f func(*shard, *sa, *child)) {
	for _, s := range e.shards {
		s.box.post(func() {
			if a := s.inbound[spi]; a != nil {
				for i := range a.children {
					if a.children[i].spi == spi {
						f(s, a, &a.children[i])
						return
					}
				}
			}
		})
	}
}

func (s *shard) reserve(a *sa, ef machine.ReserveSPI) {
	s.e.dp.ReserveSPI(s.request(request{fn: func(d kernel.Done) {
		if a.closed || a.over {
			if d.Err == nil {
				s.e.dp.Remove(s.request(request{}), d.SPI)
			}
			return
		}
		if d.Err == nil {
			a.children = append(a.children, child{id: ef.Child, spi: d.SPI})
			s.inbound[d.SPI] = a
		}
		s.step(a, machine.SPIReserved{Child: ef.Child, SPI: uint32(d.SPI), Err: d.Err, Notify: told(d.Err)})
	}}), kernel.Endpoints{Path: a.path, Backend: a.backend()})
}

// backend is the datapath that the connection of an IKE SA asks for; all that share one ask for the same (policy.Apart).
func (a *sa) backend() kernel.Backend {
	if a.control == nil {
		return kernel.BackendAuto
	}
	return kernel.Backend(a.control.conn.Backend)
}

// install routes the child's policy and then installs its SAs; the machine hears one answer for both.
func (s *shard) install(a *sa, ef machine.Install) {
	c := a.childOf(ef.Child)
	if c == nil || c.spi != kernel.SPI(ef.SPIIn) || a.control == nil {
		s.step(a, machine.InstallDone{Child: ef.Child, Err: fmt.Errorf("install: SPI %#08x was not reserved for this Child SA", ef.SPIIn)})
		return
	}
	control := s.e.view.Load().byName[ef.Conn.Name]
	if control == nil || control.conn != ef.Conn.Connection {
		s.step(a, machine.InstallDone{Child: ef.Child, Err: fmt.Errorf("connection %q is not loaded any more", ef.Conn.Name)})
		return
	}
	if ef.Transport {
		if err := s.e.policies.claim(c, ef.Local[0].Start, ef.Remote[0].Start, a.m.Snapshot().Remote); err != nil {
			s.step(a, machine.InstallDone{Child: ef.Child, Err: err})
			return
		}
	}
	s.join(a, control)
	c.control, c.index = control, ef.Index
	pol := s.e.protectPolicy(ef.Conn, ef.Index, ef.Local, ef.Remote)
	if !pol.RemoteAddr.IsValid() {
		pol.LocalAddr, pol.RemoteAddr = ef.Path.Local.Addr(), ef.Path.Remote.Addr()
	}
	c.carrier = ef.Path.Kind
	c.policy, c.instance, c.spiOut = pol.ID, !ef.Conn.RemoteAddr.IsValid(), kernel.SPI(ef.SPIOut)
	script, scripted := s.tunnelUp(a, control, ef, pol)
	c.scripted = scripted
	pair := pairOf(ef, pol.ID)
	pair.Endpoints.Held = s.handsOver(a, ef.Path)
	c.held = pair.Endpoints.Held
	moves := c.moves
	s.e.policies.protect(s, control, pol, func(d kernel.Done) {
		switch {
		case a.closed || a.childOf(ef.Child) == nil:
		case d.Err != nil:
			s.installed(a, ef.Child, d.Err)
		default:
			s.e.dp.Install(s.request(request{fn: func(d kernel.Done) {
				s.attached(a, ef.Path, d.Err, func(lost bool, err error) {
					up := func(err error) { s.runUp(script, scripted, err, func(err error) { s.installed(a, ef.Child, err) }) }
					if err != nil {
						up(err)
						return
					}
					s.released(a, ef.Child, pair.Endpoints, moves, lost, up)
				})
			}}), pair)
		}
	})
}

func (s *shard) installed(a *sa, id machine.ChildID, err error) {
	c := a.childOf(id)
	if a.closed || a.over || c == nil {
		return // the Remove that followed the request takes it away
	}
	if err == nil {
		c.installed = true
		s.e.counters.children.Add(1)
		s.e.traffic.begin(c.spi, c.control.conn.Name)
		s.firstChild(a, c.control)
	} else {
		s.removeChild(a, id)
	}
	s.step(a, machine.InstallDone{Child: id, Err: err, Notify: told(err)})
	if c := a.childOf(id); c != nil && err == nil { // the machine may have taken it away at once
		c.told = true
		ch, p := *c, a.path
		ch.control.home.box.post(func() { ch.control.childUp(a, p, ch) })
	}
}

// removeChild takes a child (or its reserved SPI) out of the datapath. The policy stays and holds packets until the connection decides.
func (s *shard) removeChild(a *sa, id machine.ChildID) {
	i := slices.IndexFunc(a.children, func(c child) bool { return c.id == id })
	if i < 0 {
		return
	}
	c := a.children[i]
	a.children = slices.Delete(a.children, i, i+1)
	delete(s.inbound, c.spi)
	var last kernel.LastPair
	if c.scripted {
		last = s.e.lastPair(c)
	}
	s.e.traffic.end(c.spi, s.e.dp.Usage)
	var done request
	if c.installed && !a.over {
		a.removing++
		done.fn = func(kernel.Done) {
			if a.removing--; a.removing == 0 {
				s.sendHeld(a)
			}
		}
	}
	s.e.dp.Remove(s.request(done), c.spi)
	if c.policy == "" {
		return
	}
	left := s.e.policies.release(c.policy, last)
	s.e.policies.unclaim(&c)
	if c.installed {
		s.e.counters.children.Add(-1)
	}
	c.control.home.box.post(func() { c.control.childGone(c, left) })
	if a.idleHere(c.control) {
		s.leave(a, c.control)
	}
}

func (s *shard) removeChildren(a *sa) {
	for len(a.children) > 0 {
		s.removeChild(a, a.children[len(a.children)-1].id)
	}
	a.children = nil
}

func pairOf(ef machine.Install, id kernel.PolicyID) kernel.SAPair {
	window, k := ef.Conn.Children[ef.Index].ReplayWindow, &ef.Conn.Children[ef.Index].Kernel
	return kernel.SAPair{
		Policy: id,
		In:     kernel.SA{SPI: kernel.SPI(ef.SPIIn), Suite: ef.Suite, EncrKey: ef.In.Encr, IntegKey: ef.In.Integ, ReplayWindow: window},
		Out:    kernel.SA{SPI: kernel.SPI(ef.SPIOut), Suite: ef.Suite, EncrKey: ef.Out.Encr, IntegKey: ef.Out.Integ, ReplayWindow: window},
		Local:  ef.Local, Remote: ef.Remote, Endpoints: kernel.Endpoints{Path: ef.Path, Backend: kernel.Backend(ef.Conn.Backend)},
		Transport: ef.Transport, OriginalLocal: ef.OriginalLocal, OriginalRemote: ef.OriginalRemote, Standby: ef.Standby,
		Limits: kernel.Limits{SoftBytes: soft(k.MaxBytes), HardBytes: k.MaxBytes, SoftPackets: soft(k.MaxPackets), HardPackets: k.MaxPackets},
		Flags:  kernel.Flags{DecapDSCP: k.DecapDSCP, NoEncapDSCP: k.NoEncapDSCP, NoPMTUDisc: k.NoPMTUDisc},
	}
}

// soft is where an SA is rekeyed that ends at hard; zero: nowhere.
func soft(hard uint64) uint64 { return hard - hard/8 }

// policyID names the policy of one child, or of a shunt. A template has one for each remote side that it protects; a peer whose name has no known address is one peer.
func policyID(o *policy.Oriented, i int, remote ts.Set) kernel.PolicyID {
	if o.RemoteAddr.IsValid() || o.Remote.Host.Kind == policy.HostName || o.IsShunt() {
		return kernel.PolicyID(o.Children[i].Name)
	}
	return kernel.PolicyID(o.Children[i].Name + "[" + remote.String() + "]")
}

func (e *Engine) protectPolicy(o *policy.Oriented, i int, local, remote ts.Set) kernel.Policy {
	k := &o.Children[i].Kernel
	return kernel.Policy{
		ID: policyID(o, i, remote), Local: local, Remote: remote, Action: kernel.Protect,
		SourceIP: e.sourceIP(o, local), LocalAddr: o.LocalAddr, RemoteAddr: o.RemoteAddr, MTU: o.Children[i].MTU,
		Priority: int(k.Priority), MarkIn: kernel.Mark(k.MarkIn), MarkOut: kernel.Mark(k.MarkOut), Interface: interfaceOf(o, k), Backend: kernel.Backend(o.Backend),
	}
}

// interfaceOf is the XFRM interface of a child, with leftinterface-ip= or else leftsourceip= on it.
func interfaceOf(o *policy.Oriented, k *policy.Kernel) kernel.Interface {
	i := kernel.Interface{Name: k.Interface, ID: k.InterfaceID}
	switch a := o.Local.SourceIP; {
	case k.Interface == "":
	case o.Local.InterfaceIP.IsValid():
		i.Addrs = []netip.Prefix{o.Local.InterfaceIP}
	case a.IsValid():
		i.Addrs = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	return i
}

// sourceIP is the source of packets that this host itself sends into the tunnel: leftsourceip=, or an address of ours that the selectors hold.
func (e *Engine) sourceIP(o *policy.Oriented, local ts.Set) netip.Addr {
	if o.Local.SourceIP.IsValid() {
		return o.Local.SourceIP
	}
	inside, ok := e.local.(LocalInside)
	for _, p := range local.Prefixes() {
		if p.IsSingleIP() && e.local.IsLocal(p.Addr()) {
			return p.Addr()
		}
		if ok {
			if a, found := inside.AddrInside(p); found {
				return a
			}
		}
	}
	return netip.Addr{}
}

// policies are the policies that the datapath has from us, and how many Child SAs stand behind each. Requests for one policy are made under the lock,
// so that they reach the datapath in the order of the decisions.
type policies struct {
	e      *Engine
	mu     sync.Mutex
	m      map[kernel.PolicyID]*routed
	flight flight
	// hosts are the peers in transport mode, by this host's address and theirs.
	hosts map[hostPair]*claim
}

type hostPair struct{ local, remote netip.Addr }

// claim is the one peer that may have transport mode with an address.
type claim struct {
	peer     ident.ID
	children int
}

// claim refuses transport mode to a second peer with the address of a first: the packets to one would go to the other (RFC 3948 5.2).
func (p *policies) claim(c *child, local, remote netip.Addr, peer ident.ID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := hostPair{local, remote}
	owner := p.hosts[k]
	if owner == nil {
		owner = &claim{peer: peer}
		p.hosts[k] = owner
	}
	if owner.peer != peer {
		return fmt.Errorf("%v has transport mode with %s already, behind the same NAT, and packets to it could not be told from those to %v; "+
			"write type=tunnel for one of the two", owner.peer, remote, peer)
	}
	owner.children++
	c.hosts = k
	return nil
}

func (p *policies) unclaim(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if owner := p.hosts[c.hosts]; owner != nil {
		if owner.children--; owner.children == 0 {
			delete(p.hosts, c.hosts)
		}
	}
	c.hosts = hostPair{}
}

type routed struct {
	control *control
	policy  kernel.Policy
	in      bool // the datapath has it (or is about to)
	users   int  // Child SAs installed or being installed
}

func (p *policies) init(e *Engine) {
	p.e, p.m, p.hosts = e, map[kernel.PolicyID]*routed{}, map[hostPair]*claim{}
}

func (p *policies) get(c *control, id kernel.PolicyID) *routed {
	r := p.m[id]
	if r == nil {
		r = &routed{}
		p.m[id] = r
	}
	r.control = c
	return r
}

func (p *policies) control(id kernel.PolicyID) *control {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.m[id]; r != nil {
		return r.control
	}
	return nil
}

// protect counts one more user and routes the policy unless it is routed like that already. done is called in s, later.
func (p *policies) protect(s *shard, c *control, pol kernel.Policy, done func(kernel.Done)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.get(c, pol.ID)
	r.users++
	if r.in && r.users > 1 && samePolicy(r.policy, pol) {
		s.box.post(func() { done(kernel.Done{}) })
		return
	}
	r.policy, r.in = pol, true
	p.e.dp.Route(p.launch(s, done), pol)
}

// release counts one user less and returns how many are left. last is what has gone with the last of them.
func (p *policies) release(id kernel.PolicyID, last kernel.LastPair) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.m[id]
	if r == nil {
		return 0
	}
	if r.users = max(r.users-1, 0); r.users == 0 && p.e.updown != nil {
		p.e.updown.Down(id, last)
	}
	return r.users
}

// idle decides what happens to traffic of a policy that no Child SA stands behind; with one it changes nothing. route false takes the policy away.
// done, if not nil, is called in s, later. With a script the policy is routed for leftupdown= too.
func (p *policies) idle(s *shard, c *control, pol kernel.Policy, route bool, script *kernel.Tunnel, done func(kernel.Done)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.get(c, pol.ID)
	same := r.users > 0 || r.in == route && (!route || samePolicy(r.policy, pol))
	switch {
	case same:
		if done != nil {
			s.box.post(func() { done(kernel.Done{}) })
		}
	case route:
		r.policy, r.in = pol, true
		p.e.dp.Route(p.launch(s, done), pol)
		if script != nil {
			p.e.updown.Route(*script)
		}
	default:
		p.e.unrouteScript(pol.ID)
		p.e.dp.Unroute(p.launch(s, done), pol.ID)
		r.in = false
	}
	if r.users == 0 && !r.in {
		delete(p.m, pol.ID)
	}
}

// leave takes a policy away that no other connection has made its own, and no Child SA stands behind.
func (p *policies) leave(s *shard, c *control, id kernel.PolicyID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.m[id]; r != nil && r.control == c && r.users == 0 {
		if r.in {
			p.e.unrouteScript(id)
			p.e.dp.Unroute(p.launch(s, nil), id)
		}
		delete(p.m, id)
	}
}

// all returns the policies that the datapath has.
func (p *policies) all() []kernel.PolicyID {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []kernel.PolicyID
	for id, r := range p.m {
		if r.in {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func samePolicy(a, b kernel.Policy) bool {
	return a.ID == b.ID && a.Action == b.Action && a.Backend == b.Backend && a.SourceIP == b.SourceIP && a.LocalAddr == b.LocalAddr && a.RemoteAddr == b.RemoteAddr &&
		a.MTU == b.MTU && a.Priority == b.Priority && a.MarkIn == b.MarkIn && a.MarkOut == b.MarkOut && a.Interface.Name == b.Interface.Name &&
		a.Interface.ID == b.Interface.ID && slices.Equal(a.Interface.Addrs, b.Interface.Addrs) && a.Local.Equal(b.Local) && a.Remote.Equal(b.Remote)
}

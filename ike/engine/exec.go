package engine

import (
	"fmt"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// exec does one effect.
func (s *shard) exec(a *sa, ef machine.Effect) {
	switch ef := ef.(type) {
	case machine.Send:
		s.sendInTurn(a, ef)
	case machine.Job:
		s.startJob(a, ef)
	case machine.ReserveSPI:
		s.reserve(a, ef)
	case machine.Install:
		s.install(a, ef)
	case machine.Move:
		s.move(a, ef)
	case machine.Remove:
		s.removeChild(a, ef.Child)
	case machine.NeedPath:
		s.needPath(a, ef)
	case machine.Authenticated:
		s.authenticated(a, ef)
	case machine.KeepAlive:
		s.setKeepAlive(a, ef)
	case machine.Emit:
		s.emit(a, ef.Event)
	case machine.Ended:
		s.end(a, ef.Close)
	case machine.Close:
		s.forget(a, ef.Close)
	}
}

// maxHeld bounds what waits for the datapath: beyond it, or when the IKE SA ends, IKE goes on without it.
const maxHeld = 16

// sendInTurn sends a message when the datapath has done the Removes before it. The answer to the Delete of a rekeyed Child SA tells the peer that nothing comes
// by the old one any more, and it forgets it at once: what this end sealed with it later would be lost (RFC 7296 2.8).
func (s *shard) sendInTurn(a *sa, ef machine.Send) {
	if a.removing == 0 {
		s.send(a, ef)
		return
	}
	if a.held = append(a.held, ef); len(a.held) > maxHeld {
		s.sendHeld(a)
	}
}

func (s *shard) sendHeld(a *sa) {
	held := a.held
	a.held = nil
	for _, ef := range held {
		s.send(a, ef)
	}
}

// send sends a message. An error is not the end: on datagrams the machine repeats, and the loss of a stream is reported by the transport.
func (s *shard) send(a *sa, ef machine.Send) {
	a.path = ef.Path
	if a.initiator && !a.established && len(ef.Data) > offExchange {
		a.authSent = iana.Exchange(ef.Data[offExchange]) != iana.IKE_SA_INIT
	}
	s.e.counters.sent.Add(1)
	if err := s.e.mux.Send(ef.Path, ef.Data); err != nil {
		s.e.counters.sendErrors.Add(1)
		s.emit(a, event.Event{Level: event.Debug, Path: ef.Path, Text: fmt.Sprintf("sending to %s failed: %v", ef.Path.Peer(), err)})
	}
	if ef.Last && ef.Path.Kind.Stream() {
		s.e.mux.CloseStream(ef.Path)
	}
}

// emit completes an event of a machine and tells it to the world and to those who wait for this connection.
func (s *shard) emit(a *sa, ev event.Event) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	if ev.SA == 0 {
		ev.SA = a.spi
	}
	if ev.Conn == "" {
		ev.Conn = a.connName()
	}
	if ev.Path.IsZero() {
		ev.Path = a.path
	}
	ev.Instance = a.instanceOf(ev.Conn)
	switch ev.Kind {
	case event.KindFallback:
		if a.initiator && !a.established && a.control.attempt == a {
			return // the connection has told so before it looked for the path
		}
	case event.KindDrop:
		s.suspect(&ev)
	case event.KindIKEUp:
		s.ikeUp(a, ev)
	case event.KindChildRekeyed:
		if c := a.controlNamed(ev.Conn); c != nil {
			defer c.home.box.post(func() { c.rekeyed(a, ev.Request, nil) })
		}
	case event.KindPacketRefused:
		if c := a.controlNamed(ev.Conn); c != nil {
			c.home.box.post(func() { c.demand.refused(c.kidNamed(ev.Child)) })
		}
	case event.KindChildFailed:
		if c := a.controlNamed(ev.Conn); c != nil {
			defer func() {
				c.home.box.post(func() { c.childFailed(a, ev) })
				if ev.Child != "" && a.idleHere(c) { // without one it was a request of the peer, and we may be asking for ours
					s.leave(a, c)
				}
			}()
		}
	default:
	}
	s.e.counters.count(ev)
	if a.control == nil && !a.initiator {
		unheard, ok := s.e.door.mayTell(time.Since(s.e.epoch))
		if !ok {
			s.recent.add(ev)
			return
		}
		if unheard > 0 {
			ev.Text += fmt.Sprintf(" (%d events of half-open IKE SAs were not told before this one)", unheard)
		}
	}
	s.e.emit(s, ev)
	for _, u := range a.users {
		if c := u.control; c.watched.Load() > 0 && (ev.Child == "" || ev.Conn == c.conn.Name) {
			if c.home == s {
				c.progress(ev)
			} else {
				c.home.box.post(func() { c.progress(ev) })
			}
		}
	}
}

// authenticated binds an IKE SA to its connection, and its stream to it.
func (s *shard) authenticated(a *sa, ef machine.Authenticated) {
	s.setHalfOpen(a, false)
	if ef.Path.Kind.Stream() && s.ownStream(a, ef.Path) {
		s.e.mux.Own(ef.Path)
	}
	a.path = ef.Path
	identity := identityKey(s.e.seed, ef.Conn.Name, ef.Local, ef.Remote)
	a.peer, a.sole = identityKey(s.e.seed, "", ef.Local, ef.Remote), ef.InitialContact
	if a.control != nil {
		a.users[0].identity = identity
		return
	}
	c := s.e.view.Load().byName[ef.Conn.Name]
	if c == nil || c.conn != ef.Conn.Connection {
		s.step(a, machine.CloseIKE{Reason: event.ReasonOperator, Linger: deleteLinger})
		return
	}
	a.control, a.users = c, []user{{control: c, identity: identity, instance: c.number()}}
	c.home.box.post(c.saBound)
}

// needPath answers a machine that got no further on its path. Before the IKE SA exists that is a matter of the connection's ladder; afterwards only the
// originator of a TCP connection can do something about it: open another (RFC 9329 6.1).
func (s *shard) needPath(a *sa, ef machine.NeedPath) {
	switch {
	case ef.Again && !a.closed && !a.over:
		s.redial(a, ef)
	case a.initiator && !a.established && a.control.attempt == a:
		a.control.needPath(ef)
	case a.established && a.initiator && ef.Last.Kind.Stream():
		s.redial(a, ef)
	default:
		s.step(a, machine.NoPath{Err: fmt.Errorf("no other path to %s", ef.Last.Remote)})
	}
}

// redial opens a new TCP connection for an established IKE SA, or for one whose first request has to be repeated.
func (s *shard) redial(a *sa, ef machine.NeedPath) {
	s.e.dial(s, ef.Conn.LocalAddr, ef.Last.Remote, ef.Conn.Retransmit.Timeout, func(p path.Path, err error) {
		switch {
		case a.closed || a.over:
			s.e.abandon(p, err)
		case err != nil:
			s.step(a, machine.NoPath{Err: err})
		default:
			s.ownStream(a, p)
			s.step(a, machine.PathReady{Path: p, SPI: a.spi})
		}
	})
}

func (s *shard) setKeepAlive(a *sa, ef machine.KeepAlive) {
	s.stopKeepAlive(a)
	if ef.On && !ef.Path.Kind.Stream() {
		p := ef.Path
		a.keepalive = &p
		s.e.keepalives.add(p, func() { s.e.mux.KeepAlive(p, s.e.view.Load().keepAlive()) })
	}
}

func (s *shard) stopKeepAlive(a *sa) {
	if a.keepalive == nil {
		return
	}
	p := *a.keepalive
	a.keepalive = nil
	s.e.keepalives.remove(p, func() { s.e.mux.KeepAlive(p, 0) })
}

// keepalives counts who needs NAT keepalives on a path: two IKE SAs between the same hosts share it. The transport, which never blocks, is told under the
// lock: of two shards of which one begins and the other ends, the later must be heard last.
type keepalives struct {
	mu    sync.Mutex
	users map[path.Path]int
}

func (k *keepalives) init() { k.users = map[path.Path]int{} }

// add calls begin if p is new.
func (k *keepalives) add(p path.Path, begin func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users[p]++; k.users[p] == 1 {
		begin()
	}
}

// remove calls end if p has no user left.
func (k *keepalives) remove(p path.Path, end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users[p]--; k.users[p] == 0 {
		delete(k.users, p)
		end()
	}
}

// known takes a message for one of our SPIs.
func (s *shard) known(d transport.Datagram, spi wire.SPI) {
	a := s.sas[spi]
	if a == nil {
		s.e.junk(event.DropUnknownSPI, d, "")
		return
	}
	s.datagram(d, a)
}

// datagram gives a message to its IKE SA, if it came on a path where it may come.
func (s *shard) datagram(d transport.Datagram, a *sa) {
	if d.Path.Kind.Stream() && !s.e.streams.admits(d.Path, a.spi) {
		s.e.dropped(s, event.DropUnexpected, d, "it is for another IKE SA than the one that owns the connection; the connection is closed")
		s.e.breakStream(d.Path, errForeign)
		return
	}
	s.step(a, machine.Datagram{Path: d.Path, Data: d.Data})
}

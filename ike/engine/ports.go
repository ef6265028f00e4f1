package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// ports are the ports that connections have for themselves (leftikeport=) and that the transport listens on for them. Whoever changes the set owns it.
type ports struct {
	open map[uint16]ownPort
}

type ownPort struct {
	ours bool   // its ESP over UDP is read by ikegod, not by the kernel
	anew bool   // it is open, but not as ours says: it is opened anew when those who want it otherwise are down, whose last words go out by it
	held string // a connection that wants it and stays in the set, or comes into it; empty: none
}

func (p *ports) init() { p.open = map[uint16]ownPort{} }

// keep says which connections stay in the set that is being made.
func (p *ports) keep(list []*control) {
	for port, u := range p.open {
		u.held = ""
		p.open[port] = u
	}
	for _, c := range list {
		if c == nil {
			continue
		}
		for _, end := range c.local() {
			if u, ok := p.open[end.OwnPort()]; ok {
				u.held = c.conn.Name
				p.open[end.OwnPort()] = u
			}
		}
	}
}

// find orients a connection, looks whether it can have the datapath that it asks for, and opens the port that it has for itself. refused: its hosts are these, but it
// cannot have that. Called while the set is changed.
func (e *Engine) find(c *policy.Connection, setup policy.Setup, here policy.Here) (found []*policy.Oriented, refused *policy.Oriented, err error) {
	if found, err = c.OrientAll(here); err != nil {
		return nil, nil, err
	}
	if c.IsShunt() { // it has no carrier and no port
		if why := e.choice.Refuse(kernel.Wish{Backend: kernel.Backend(c.Backend)}); why != "" {
			return nil, nil, fmt.Errorf("conn %s: %s cannot be had: %s", c.Name, found[0].Where("backend"), why)
		}
		return found, nil, nil
	}
	if err := e.provide(found[0], setup); err != nil {
		return nil, found[0], err
	}
	return found, nil, nil
}

// awaits finds out what a connection can do while its peer's name has no known address, or while it is refused what it needs. Called while the set is changed.
func (c *control) awaits(setup policy.Setup, here policy.Here, refused *policy.Oriented) {
	if refused != nil {
		if c.refused = refused.RemoteAddr.IsValid(); c.refused { // else it is the peers who say which traffic is theirs
			c.side = refused
		}
		return
	}
	c.guest, c.side = c.conn.Guest(here.IsLocal), c.conn.Side(here)
	if c.guest == nil || c.oriented != nil {
		return
	}
	if err := c.e.provide(c.guest, setup); err != nil {
		c.guest, c.why, c.without = nil, err, err
		c.public.Why = err.Error()
	}
}

// refusedWait is how long packets for the trap of a connection that is refused what it needs do not ask for that again: each would have an answer at once, and be told.
const refusedWait = 10 * time.Second

// provide gives a connection what it needs beside addresses, or says why it cannot have that.
func (e *Engine) provide(o *policy.Oriented, setup policy.Setup) error {
	word := "rightikeport="
	if o.LeftIsLocal {
		word = "leftikeport="
	}
	why := e.choice.Refuse(kernel.Wish{
		Backend: kernel.Backend(o.Backend), UDP: setup.ListenUDP && o.TCP.Mode != policy.TCPYes, TCP: o.TCP.Mode != policy.TCPNo,
		PlainESP: o.Encapsulation == policy.EncapNo, OwnPort: o.Local.OwnPort() != 0, PortWord: word,
	})
	if why != "" {
		return fmt.Errorf("conn %s: %s cannot be had: %s", o.Name, o.Where("backend"), why)
	}
	return e.openPort(o)
}

// openPort opens the port of a connection, unless it is open.
func (e *Engine) openPort(o *policy.Oriented) error {
	port, ours := o.Local.OwnPort(), e.choice.Shape == kernel.ShapeSplit && o.Backend == policy.BackendUserspace
	opener, ok := e.mux.(transport.PortOpener)
	if port == 0 || !ok {
		return nil
	}
	u, open := e.ports.open[port]
	switch {
	case open && u.ours == ours:
		u.held = o.Name
		e.ports.open[port] = u
		return nil
	case open && u.held != "" && u.held != o.Name:
		return fmt.Errorf("conn %s: the port of %s is that of connection %q, which asks for another datapath with backend=, and ESP of one port goes to one: choose another port",
			o.Name, o.WhereEnd(true, "ikeport"), u.held)
	case open: // those that want it otherwise are on their way out
		e.ports.open[port] = ownPort{ours: ours, anew: !u.anew, held: o.Name}
		return nil
	}
	if err := opener.OpenPort(port, ours); err != nil {
		return fmt.Errorf("conn %s: the port of %s cannot be had: %w", o.Name, o.WhereEnd(true, "ikeport"), err)
	}
	e.ports.open[port] = ownPort{ours: ours, held: o.Name}
	return nil
}

// settlePorts closes the ports that no connection wants any more, and opens those anew that are for another datapath now. What others had there is down. Called while the
// set is changed.
func (e *Engine) settlePorts() {
	opener, ok := e.mux.(transport.PortOpener)
	if !ok || len(e.ports.open) == 0 {
		return
	}
	v := e.view.Load()
	for _, port := range slices.Sorted(maps.Keys(e.ports.open)) {
		u := e.ports.open[port]
		if v.owned[port] && !u.anew {
			continue
		}
		delete(e.ports.open, port)
		opener.ClosePort(port)
		if !v.owned[port] {
			continue
		}
		if err := opener.OpenPort(port, u.ours); err != nil {
			e.seekOwners(v, port) // each finds out by itself, and says why
			continue
		}
		u.anew = false
		e.ports.open[port] = u
	}
}

// seekOwners has the connections with a port of their own looked at again.
func (e *Engine) seekOwners(v *view, port uint16) {
	for _, c := range v.list {
		if slices.ContainsFunc(c.local(), func(end *policy.End) bool { return end.OwnPort() == port }) {
			e.seeker.ask(c.conn.Name, seek{})
		}
	}
}

// local are the ends of a connection at which a peer may meet it. One that only holds its traffic back has none, and keeps no port from others.
func (c *control) local() (ends []*policy.End) {
	if c.conn.IsShunt() {
		return nil
	}
	for _, o := range []*policy.Oriented{c.oriented, c.guest} {
		if o != nil {
			ends = append(ends, o.Local)
		}
	}
	return ends
}

// meets reports whether a connection is for what comes to the port of a path: one with a port of its own is met there and nowhere else, and on it no other.
func (v *view) meets(o *policy.Oriented, p path.Path) bool {
	port := p.Local.Port()
	if own := o.Local.OwnPort(); own != 0 {
		return own == port
	}
	return !v.owned[port] || p.Kind.Stream() && slices.Contains(v.setup.ListenTCP, port)
}

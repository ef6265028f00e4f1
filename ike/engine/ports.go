package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// ports are the ports that connections have for themselves (leftikeport=) and that the transport listens on for them. Whoever changes the set owns it.
type ports struct {
	open map[uint16]bool
}

func (p *ports) init() { p.open = map[uint16]bool{} }

// find orients a connection and opens the port that it has for itself. Called while the set is changed.
func (e *Engine) find(c *policy.Connection, here policy.Here) ([]*policy.Oriented, error) {
	found, err := c.OrientAll(here)
	if err != nil {
		return nil, err
	}
	if err := e.openPort(found[0]); err != nil {
		return nil, err
	}
	return found, nil
}

// awaits finds out what a connection can do while its peer's name has no known address. Called while the set is changed.
func (c *control) awaits(here policy.Here) {
	c.guest, c.side = c.conn.Guest(here.IsLocal), c.conn.Side(here)
	if c.guest == nil || c.oriented != nil {
		return
	}
	if err := c.e.openPort(c.guest); err != nil {
		c.guest, c.why, c.without = nil, err, err
		c.public.Why = err.Error()
	}
}

// openPort opens the port of a connection, unless it is open.
func (e *Engine) openPort(o *policy.Oriented) error {
	port := o.Local.OwnPort()
	opener, ok := e.mux.(transport.PortOpener)
	if port == 0 || !ok || e.ports.open[port] {
		return nil
	}
	if err := opener.OpenPort(port, false); err != nil {
		return fmt.Errorf("conn %s: the port of %s cannot be had: %w", o.Name, o.WhereEnd(true, "ikeport"), err)
	}
	e.ports.open[port] = true
	return nil
}

// closePorts closes the ports that no connection wants any more. What they had there is down. Called while the set is changed.
func (e *Engine) closePorts() {
	opener, ok := e.mux.(transport.PortOpener)
	if !ok || len(e.ports.open) == 0 {
		return
	}
	v := e.view.Load()
	for _, port := range slices.Sorted(maps.Keys(e.ports.open)) {
		if !v.owned[port] {
			delete(e.ports.open, port)
			opener.ClosePort(port)
		}
	}
}

// local are the ends of a connection that may be this host, as far as that is known.
func (c *control) local() (ends []*policy.End) {
	for _, o := range []*policy.Oriented{c.oriented, c.guest, c.side} {
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

package engine

import (
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// A connection of type=passthrough, drop or reject is its policies and nothing else. It is wanted while they are to be in place: with any auto= but add from load on,
// and after an up; a down takes them away.

// place puts the policies of a shunt in place.
func (c *control) place() {
	if c.phase == phaseInPlace {
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is in place already: %s", c.conn.Name, c.does())})
		c.finishUps(nil)
		return
	}
	c.want()
	c.set(phaseDown)
	c.base(func(d kernel.Done) {
		switch {
		case !c.wanted || c.gone: // taken away meanwhile
		case d.Err != nil:
			c.publish(func(s *ConnectionStatus) { s.LastError = d.Err.Error() })
			c.finishUps(fmt.Errorf("connection %q is not in place: %w", c.conn.Name, d.Err))
		default:
			c.set(phaseInPlace)
			c.publish(func(s *ConnectionStatus) { s.LastError = "" })
			c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is in place: %s", c.conn.Name, c.does())})
			c.finishUps(nil)
		}
	})
}

// standing is what a shunt does now.
func (c *control) standing() (action kernel.Action, route bool) {
	if !c.wanted || c.gone || c.e.closing.Load() {
		return shuntAction(policy.ShuntNone)
	}
	return shuntAction(c.conn.Shunt)
}

// standsFromLoad reports whether auto= puts a shunt in place by itself.
func (c *control) standsFromLoad() bool {
	switch c.conn.Auto {
	case policy.AutoOnDemand, policy.AutoStart, policy.AutoKeep:
		return c.conn.IsShunt()
	case policy.AutoIgnore, policy.AutoAdd:
	}
	return false
}

// does says what a shunt does with which traffic.
func (c *control) does() string {
	const most = 4
	var parts []string
	o := c.oriented
	for i := range o.Children {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(o.Children)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s === %s", o.LocalTS(i), o.RemoteTS(i)))
	}
	return fmt.Sprintf("%s for %s", c.conn.Shunt, strings.Join(parts, ", "))
}

// noIKE says why a shunt is for no peer.
func (c *control) noIKE() string {
	s := fmt.Sprintf("is type=%s", c.conn.Shunt)
	if p := c.conn.Positions["type"]; p != "" {
		s += " (" + p + ")"
	}
	return s + ", a policy without IKE: no peer gets it"
}

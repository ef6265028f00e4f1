package engine

import (
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

var _ transport.UnreachableHandler = (*Engine)(nil)

// Unreachable implements transport.UnreachableHandler. ICMP is not authenticated, so it ends nothing: whoever waits for the connection is told, and the
// attempt's reason says it too (RFC 7296 2.4).
func (e *Engine) Unreachable(p path.Path, err error) {
	v := e.view.Load()
	for _, o := range v.exact[addrPair{p.Local.Addr(), p.Remote.Addr()}] {
		c := v.byName[o.Name]
		if c == nil || !c.hinted.CompareAndSwap(false, true) {
			continue
		}
		if !c.home.box.post(func() { c.unreachable(p, err) }) {
			c.hinted.Store(false)
		}
	}
}

// unreachable notes the first hint about the rung in work.
func (c *control) unreachable(p path.Path, err error) {
	c.hinted.Store(false)
	if c.phase != phaseNegotiating || !c.round.open || c.round.hint != nil || c.round.on.Kind != p.Kind {
		return
	}
	c.round.hint = err
	c.tell(event.Event{Level: event.Warn, Path: p, Text: p.Peer() + ": " + err.Error() + "; anybody can forge ICMP, so an answer is still waited for"})
}

package engine

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/ident"
)

// An instance is what one peer makes of a template (right=%any): its Child SAs in an IKE SA, and their policies. It has a number, as in libreswan: "road"[2]. An IKE SA
// that several templates use is an instance of each, and goes by one of them.
// It comes with the peer and goes with it; revival is the peer's.

// number gives the peer of a template its number; zero for a connection that is none.
func (c *control) number() int {
	if !c.template() {
		return 0
	}
	return int(c.numbers.Add(1))
}

// instance is the number of an IKE SA among those of a template.
type instance struct {
	conn   string
	number int
}

// instanceOf is the number of an IKE SA among those of a connection that uses it.
func (a *sa) instanceOf(conn string) int {
	for i := range a.users {
		if a.users[i].control.conn.Name == conn {
			return a.users[i].instance
		}
	}
	if a.gone != nil && a.gone.conn == conn {
		return a.gone.number
	}
	return 0
}

// template reports whether any peer may come to a connection.
func (c *control) template() bool {
	o := c.oriented
	if o == nil {
		o = c.guest
	}
	return o != nil && !o.RemoteAddr.IsValid()
}

// instanceName reads NAME[N].
func instanceName(s string) (name string, number int, ok bool) {
	open := strings.LastIndexByte(s, '[')
	if open <= 0 || !strings.HasSuffix(s, "]") {
		return "", 0, false
	}
	n, err := strconv.Atoi(s[open+1 : len(s)-1])
	return s[:open], n, err == nil && n > 0
}

// ofInstance finds the template that NAME[N] is a peer of; nil: it is none.
func (v *view) ofInstance(name string) (c *control, number int) {
	base, number, ok := instanceName(name)
	if !ok || v.byName[name] != nil {
		return nil, 0
	}
	return v.byName[base], number
}

// peerOf is where one peer of a template is, and who.
func (e *Engine) peerOf(c *control, number int) (addr netip.Addr, id ident.ID, err error) {
	for _, s := range e.shards {
		found, ok := ask(e, s, func() bool {
			for _, spi := range s.sortedSPIs(isInstance(c, number)) {
				addr, id = s.sas[spi].path.Remote.Addr(), s.sas[spi].m.Snapshot().Remote
				return true
			}
			return false
		})
		switch {
		case !ok:
			return addr, id, errStopped
		case found:
			return addr, id, nil
		}
	}
	return addr, id, noInstance(c, number)
}

func noInstance(c *control, number int) error {
	return fmt.Errorf("%w: %q has no instance %d now; `ikectl connections` lists those it has", ErrNoConnection, c.conn.Name, number)
}

// downInstance takes one instance of a template down and waits until it is gone.
func (e *Engine) downInstance(ctx context.Context, c *control, number int, progress func(event.Event)) error {
	found := 0
	for _, s := range e.shards {
		n, ok := ask(e, s, func() int { return s.closeInstance(c, number) })
		if !ok {
			return errStopped
		}
		found += n
	}
	if found == 0 {
		return noInstance(c, number)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := found; left > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		left = 0
		for _, s := range e.shards {
			n, ok := ask(e, s, func() int { return len(s.sortedSPIs(isInstance(c, number))) })
			if !ok {
				return errStopped
			}
			left += n
		}
	}
	if progress != nil {
		progress(event.Event{At: time.Now(), Level: event.Info, Conn: c.conn.Name, Instance: number, Text: fmt.Sprintf("instance %d of connection %q is down", number, c.conn.Name)})
	}
	return nil
}

func isInstance(c *control, number int) func(*sa) bool {
	return func(a *sa) bool {
		i := a.user(c)
		return i >= 0 && a.users[i].instance == number && !a.over
	}
}

// closeInstance begins to end one instance in this shard and returns how many IKE SAs it has there. What other connections have on them stays.
func (s *shard) closeInstance(c *control, number int) int {
	spis := s.sortedSPIs(isInstance(c, number))
	for _, spi := range spis {
		if a := s.sas[spi]; a != nil {
			s.release(a, c, event.ReasonOperator, deleteLinger)
		}
	}
	return len(spis)
}

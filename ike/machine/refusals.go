package machine

import (
	"fmt"
	"time"

	"github.com/ikegod/ikegod/ike/event"
)

// refusals limits what a peer can make us log by requests that we refuse: it has authenticated, but it may ask as often as it likes. The first refusalBurst are
// told, and then one in refusalInterval, with the number of those that were not.
type refusals struct {
	full    moment // when all of the burst is there again
	unheard int
}

const (
	refusalBurst    = 10
	refusalInterval = 10 * time.Second
)

// tellRefusal emits an event about a refused request. One too many is for whoever debugs alone.
func (m *Machine) tellRefusal(ev event.Event) {
	r := &m.refusals
	if r.full > m.now.add((refusalBurst-1)*refusalInterval) {
		r.unheard++
		ev.Level = event.Debug
		m.emit(ev)
		return
	}
	r.full = max(r.full, m.now).add(refusalInterval)
	if r.unheard > 0 {
		ev.Text += fmt.Sprintf(" (%d refused requests were not told before this one)", r.unheard)
		r.unheard = 0
	}
	m.emit(ev)
}

// untoldRefusals is what the end of an IKE SA adds, so that the log does not hide them for ever.
func (m *Machine) untoldRefusals() string {
	n := m.refusals.unheard
	if n == 0 {
		return ""
	}
	m.refusals.unheard = 0
	return fmt.Sprintf(" (%d refused requests of the peer were not told)", n)
}

package engine

import "time"

// alarm is the place of one sleeper in its shard's heap: sixteen octets instead of a runtime timer per IKE SA.
type alarm struct {
	at   time.Duration // since the engine's epoch
	slot int32         // index in the heap plus one; zero: not set
}

// sleeper is what wants to be called at a time: an IKE SA, or a connection that waits for its revival.
type sleeper interface {
	bell() *alarm
	ring(now time.Time)
}

// alarms is a binary heap of sleepers, earliest first. Not safe for concurrent use.
type alarms []sleeper

// set makes s ring at the given time instead of any earlier setting.
func (h *alarms) set(s sleeper, at time.Duration) {
	a := s.bell()
	if a.slot == 0 {
		a.at = at
		*h = append(*h, s)
		a.slot = int32(len(*h))
		h.up(len(*h) - 1)
		return
	}
	if a.at == at {
		return
	}
	a.at = at
	i := int(a.slot) - 1
	h.down(i)
	h.up(int(a.slot) - 1)
}

// unset takes s out.
func (h *alarms) unset(s sleeper) {
	a := s.bell()
	if a.slot == 0 {
		return
	}
	i, last := int(a.slot)-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	a.slot = 0
	if i < last {
		moved := (*h)[i]
		h.down(i)
		h.up(int(moved.bell().slot) - 1)
	}
}

// next is the earliest time set; ok is false when there is none.
func (h alarms) next() (at time.Duration, ok bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].bell().at, true
}

// due takes out one sleeper whose time has come, or returns nil.
func (h *alarms) due(now time.Duration) sleeper {
	if len(*h) == 0 || (*h)[0].bell().at > now {
		return nil
	}
	s := (*h)[0]
	h.unset(s)
	return s
}

func (h alarms) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].bell().slot, h[j].bell().slot = int32(i+1), int32(j+1)
}

func (h alarms) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].bell().at <= h[i].bell().at {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h alarms) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].bell().at < h[child].bell().at {
			child++
		}
		if h[i].bell().at <= h[child].bell().at {
			return
		}
		h.swap(i, child)
		i = child
	}
}

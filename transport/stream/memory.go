package stream

import "sync/atomic"

// Memory is the octets that messages of streams nobody owns may take together, beyond the first few KiB of each. Safe for concurrent use.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes a Memory of so many octets.
func NewMemory(limit int) *Memory { return &Memory{limit: int64(limit)} }

// take reserves n octets and reports whether there was room. A nil Memory has no limit.
func (m *Memory) take(n int) bool {
	if m == nil {
		return true
	}
	if m.used.Add(int64(n)) > m.limit {
		m.used.Add(int64(-n))
		return false
	}
	return true
}

func (m *Memory) give(n int) {
	if m != nil {
		m.used.Add(int64(-n))
	}
}

// Used returns the octets reserved now.
func (m *Memory) Used() int { return int(m.used.Load()) }

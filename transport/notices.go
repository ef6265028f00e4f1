package transport

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

// NoticeInterval is the shortest time between two notices of one kind, so that a flood of garbage cannot fill a log.
const NoticeInterval = 5 * time.Second

// Notices tells an operator about drops, at most one of a kind in NoticeInterval. A nil *Notices tells nobody. Safe for concurrent use.
type Notices struct {
	tell  func(Drop, path.Path, string)
	start time.Time // times are counted from it: a wall clock that is set back must not silence anything
	kind  [NumDrops]struct {
		next    atomic.Int64 // nanoseconds from start
		skipped atomic.Uint64
	}
}

// NewNotices makes Notices that call tell, which must not block, with one line that stands by itself.
func NewNotices(tell func(Drop, path.Path, string)) *Notices {
	if tell == nil {
		return nil
	}
	return &Notices{tell: tell, start: time.Now()}
}

// Due reports whether a notice of this kind would be told now; otherwise it is counted. The caller then makes the text and calls Tell: dropping a packet
// costs no formatting.
func (n *Notices) Due(d Drop) bool {
	if n == nil || d >= NumDrops {
		return false
	}
	k := &n.kind[d]
	now, next := int64(time.Since(n.start)), k.next.Load()
	if now < next || !k.next.CompareAndSwap(next, now+int64(NoticeInterval)) {
		k.skipped.Add(1)
		return false
	}
	return true
}

// Tell passes one notice on, after Due.
func (n *Notices) Tell(d Drop, p path.Path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s := n.kind[d].skipped.Swap(0); s > 0 {
		text += fmt.Sprintf(" (and %d more of this kind since the last such line)", s)
	}
	n.tell(d, p, text)
}

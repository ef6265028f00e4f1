package xfrm

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// larvalDrop is net.core.xfrm_larval_drop of a network namespace. With 1, the kernel's default, packets whose policy has no SA yet are dropped. With 0 they wait at
// the policy (a hundred of each policy, for some hundred seconds at most) and are sent when the SA comes. The file belongs to the namespace of the thread that has opened it.
type larvalDrop struct {
	file *os.File
	was  string // to be put back at the end; empty: it was 0 already
}

const larvalFile = "/proc/sys/net/core/xfrm_larval_drop"

// keepLarval lets packets wait. earlier is what a daemon before this one has found and not put back; empty: there is no such.
func keepLarval(earlier string) (*larvalDrop, error) {
	l := &larvalDrop{}
	f, err := os.OpenFile(larvalFile, os.O_RDWR, 0)
	if err != nil {
		return l, l.words(err)
	}
	b := make([]byte, 16)
	n, err := f.ReadAt(b, 0)
	was := strings.TrimSpace(string(b[:n]))
	if n == 0 && err != nil {
		return l, l.words(errors.Join(err, f.Close()))
	}
	if was == "0" && earlier == "" {
		return l, f.Close()
	}
	if _, err := f.WriteAt([]byte("0\n"), 0); err != nil {
		return l, l.words(errors.Join(err, f.Close()))
	}
	if l.file, l.was = f, was; earlier != "" {
		l.was = earlier
	}
	return l, nil
}

func (l *larvalDrop) words(err error) error {
	return fmt.Errorf("packets that a connection comes up for are dropped, and have to be sent again, until it is up: net.core.xfrm_larval_drop cannot be set to 0 (%w)", err)
}

// restoreLarval puts back what an earlier daemon has found; empty: it was as it is.
func restoreLarval(was string) error {
	if was == "" {
		return nil
	}
	l := &larvalDrop{was: was}
	var err error
	if l.file, err = os.OpenFile(larvalFile, os.O_WRONLY, 0); err != nil {
		return fmt.Errorf("put back net.core.xfrm_larval_drop=%s: %w", was, err)
	}
	return l.close()
}

// close puts back what was.
func (l *larvalDrop) close() error {
	if l == nil || l.file == nil {
		return nil
	}
	_, err := l.file.WriteAt([]byte(l.was+"\n"), 0)
	err = errors.Join(err, l.file.Close())
	l.file = nil
	if err != nil {
		return fmt.Errorf("put back net.core.xfrm_larval_drop=%s: %w", l.was, err)
	}
	return nil
}

package engine

import (
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// view is the set in force, compiled for reading without locks. Immutable; a change makes a new one.
type view struct {
	setup     policy.Setup
	list      []*control // in file order
	byName    map[string]*control
	exact     map[addrPair][]*policy.Oriented
	templates map[netip.Addr][]*policy.Oriented
	named     bool            // some hosts are written as names
	owned     map[uint16]bool // ports that connections have for themselves; nil: none
}

type addrPair struct{ local, remote netip.Addr }

// Defaults for a Setup that does not say; they are libreswan's.
const (
	defaultMaxHalfOpen     = 50000
	defaultCookieThreshold = 25000
	defaultKeepAlive       = 20 * time.Second
)

func newView(setup policy.Setup, list []*control) *view {
	v := &view{setup: setup, list: list, byName: map[string]*control{}, exact: map[addrPair][]*policy.Oriented{}, templates: map[netip.Addr][]*policy.Oriented{}}
	for _, c := range list {
		v.byName[c.conn.Name] = c
		v.named = v.named || len(c.conn.Names()) > 0
		for _, end := range c.local() {
			if port := end.OwnPort(); port != 0 {
				if v.owned == nil {
					v.owned = map[uint16]bool{}
				}
				v.owned[port] = true
			}
		}
		switch o := c.oriented; {
		case o == nil && c.guest != nil:
			v.templates[c.guest.LocalAddr] = append(v.templates[c.guest.LocalAddr], c.guest)
		case o == nil, o.IsShunt():
		case o.RemoteAddr.IsValid():
			for _, o := range c.met {
				k := addrPair{o.LocalAddr, o.RemoteAddr}
				v.exact[k] = append(v.exact[k], o)
			}
		default:
			v.templates[o.LocalAddr] = append(v.templates[o.LocalAddr], o)
		}
	}
	return v
}

func (v *view) maxHalfOpen() int {
	if v.setup.MaxHalfOpen > 0 {
		return v.setup.MaxHalfOpen
	}
	return defaultMaxHalfOpen
}

func (v *view) keepAlive() time.Duration {
	if v.setup.KeepAlive > 0 {
		return v.setup.KeepAlive
	}
	return defaultKeepAlive
}

// wantsCookie reports whether a stranger has to prove its address while so many IKE SAs are half-open. Over TCP it has done so by connecting: a cookie
// is asked for only near the limit, where it slows strangers down (RFC 9329 6.3).
//
// busy says that key exchanges wait for a worker: a public value of a large group costs us a hundred times what it costs whoever asks for it.
func (v *view) wantsCookie(open int64, stream, busy bool) bool {
	if stream {
		return v.setup.CookieMode != policy.CookieNever && open >= int64(v.maxHalfOpen())*7/8
	}
	switch v.setup.CookieMode {
	case policy.CookieAlways:
		return true
	case policy.CookieNever:
		return false
	case policy.CookieAuto:
	}
	threshold := v.setup.CookieThreshold
	if threshold <= 0 {
		threshold = min(defaultCookieThreshold, v.maxHalfOpen()/2)
	}
	return busy || open >= int64(threshold)
}

// orient makes the control of a connection that comes into the set.
func (e *Engine) orient(c *policy.Connection, setup policy.Setup, here policy.Here) *control {
	found, refused, why := e.find(c, setup, here)
	k := newControl(e, c, setup, found, why)
	k.awaits(setup, here, refused)
	return k
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/ike/event"
)

// Resolver finds the addresses of DNS names, best first. net.Resolver is one. It may block until ctx ends.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	lookupTime = 10 * time.Second // for one name
	lookups    = 16               // at the same time
	// namesInterval is how often names of connections that have no SA are looked up again, as a peer that moved may come to us first.
	namesInterval = 60 * time.Second
	// missInterval bounds how often a stranger without a connection makes us look names up.
	missInterval = 5 * time.Second
)

// names are the DNS names of the hosts with what is known of them. It has its own lock.
type names struct {
	resolver Resolver // nil: nothing resolves
	slots    chan struct{}

	// Atomic.
	refreshing atomic.Bool
	missed     atomic.Int64 // when a stranger made us look last, since the engine's epoch

	mu sync.Mutex
	m  map[string]*named
}

type named struct {
	addrs   []netip.Addr // of the last lookup that had any
	err     error        // of the last lookup
	running chan struct{}
}

var (
	errNotLookedUp = errors.New("it has not been looked up yet")
	errNoResolver  = errors.New("nothing here looks names up")
)

func (n *names) init(r Resolver) {
	n.resolver, n.slots, n.m = r, make(chan struct{}, lookups), map[string]*named{}
}

// known is policy.Here.Resolve: it never blocks. Addresses that a lookup had before outlive one that fails: an outage of DNS takes nothing down.
func (n *names) known(name string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch x := n.m[name]; {
	case x == nil:
		return nil, errNotLookedUp
	case len(x.addrs) > 0:
		return x.addrs, nil
	case x.err == nil:
		return nil, errNotLookedUp
	default:
		return nil, x.err
	}
}

// lookup asks for a name now, or waits for the answer to somebody else's question. It reports what is new about it, for the operator.
func (n *names) lookup(ctx context.Context, name string) (text string, level event.Level) {
	n.mu.Lock()
	x := n.m[name]
	if x == nil {
		x = &named{}
		n.m[name] = x
	}
	if wait := x.running; wait != nil {
		n.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		return "", 0
	}
	x.running = make(chan struct{})
	n.mu.Unlock()

	addrs, err := n.ask(ctx, name)

	n.mu.Lock()
	defer n.mu.Unlock()
	close(x.running)
	x.running = nil
	before, failedBefore := x.addrs, x.err != nil
	x.err = err
	if len(addrs) > 0 {
		x.addrs = addrs
	}
	switch {
	case err != nil && len(before) > 0:
		return fmt.Sprintf("%s could not be looked up (%v): what was known before is used, %s", name, err, addrList(before)), event.Warn
	case err != nil:
		return fmt.Sprintf("%s could not be looked up: %v", name, err), event.Warn
	case !slices.Equal(before, addrs) || failedBefore:
		return fmt.Sprintf("%s is %s", name, addrList(addrs)), event.Info
	}
	return "", 0
}

func (n *names) ask(ctx context.Context, name string) ([]netip.Addr, error) {
	if n.resolver == nil {
		return nil, errNoResolver
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer within %v, behind many other names", lookupTime)
	}
	addrs, err := n.resolver.LookupNetIP(ctx, "ip", name)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer within %v; check the name servers of this host", lookupTime)
	case err != nil:
		return nil, err
	case len(addrs) == 0:
		return nil, errors.New("it has no address")
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

func addrList(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// lookUp looks all the names of a connection up and tells what is new.
func (e *Engine) lookUp(c *control) {
	for _, name := range c.conn.Names() {
		if text, level := e.names.lookup(e.life, name); text != "" {
			c.home.box.post(func() { c.tell(event.Event{Level: level, Text: fmt.Sprintf("connection %q: %s", c.conn.Name, text)}) })
		}
	}
}

// refreshNames looks the names of connections up that have none of their SAs, one after the other, and then their hosts again.
func (e *Engine) refreshNames() {
	if !e.names.refreshing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer e.names.refreshing.Store(false)
		asked := map[string]bool{}
		for _, c := range e.view.Load().list {
			list := c.conn.Names()
			if len(list) == 0 || c.isUp() || e.life.Err() != nil {
				continue
			}
			if !asked[strings.Join(list, " ")] {
				asked[strings.Join(list, " ")] = true
				e.lookUp(c)
			}
			e.seeker.ask(c.conn.Name, seek{})
		}
	}()
}

// missed is called when a stranger has met no connection: a peer whose name has a new address may be it.
func (e *Engine) missed(v *view) {
	if !v.named {
		return
	}
	now, last := time.Since(e.epoch), time.Duration(e.names.missed.Load())
	if now-last >= missInterval && e.names.missed.CompareAndSwap(int64(last), int64(now)) {
		e.refreshNames()
	}
}

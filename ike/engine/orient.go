package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
)

// Hosts are looked for again when addresses of this host have changed, before each round, and when a name has been looked up. One goroutine does it for
// all, so that ten thousand connections cost one pass and one new view. A connection whose hosts have changed gets a new control, its heir, which takes
// over what the old one was about; the others are not touched.

// seeker collects what is to be looked at. It has its own lock.
type seeker struct {
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	all   bool
	asked map[string]seek // by connection
}

// seek is a question about the hosts of one connection.
type seek struct {
	round   int                // not zero: the round with this number waits for the answer
	rest    []*policy.Oriented // instead of looking: the addresses of the peer that this attempt has not tried
	carried []Attempt          // what those before have answered
}

func (s *seeker) init() { s.wake, s.asked = make(chan struct{}, 1), map[string]seek{} }

func (s *seeker) ask(name string, q seek) {
	s.mu.Lock()
	if had, ok := s.asked[name]; !ok || had.round == 0 {
		s.asked[name] = q
	}
	s.mu.Unlock()
	s.signal()
}

func (s *seeker) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *seeker) take() (asked map[string]seek, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, all = s.asked, s.all
	s.asked, s.all = map[string]seek{}, false
	return asked, all
}

// AddressesChanged says that addresses or routes of this host are others than before. It does not block.
func (e *Engine) AddressesChanged() {
	e.seeker.mu.Lock()
	e.seeker.all = true
	e.seeker.mu.Unlock()
	e.seeker.signal()
}

// runSeeker looks until ctx ends.
func (e *Engine) runSeeker(ctx context.Context) {
	tick := time.NewTicker(namesInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if e.view.Load().named {
				e.refreshNames()
			}
		case <-e.seeker.wake:
			if asked, all := e.seeker.take(); all || len(asked) > 0 {
				e.seekHosts(ctx, asked, all)
			}
		}
	}
}

// here answers orientation, asking the system once for each address.
func (e *Engine) here(listen netip.Addr) policy.Here {
	local := map[netip.Addr]bool{}
	return policy.Here{
		IsLocal: func(a netip.Addr) bool {
			is, ok := local[a]
			if !ok {
				is = e.local.IsLocal(a) && (!listen.IsValid() || listen == a)
				local[a] = is
			}
			return is
		},
		DefaultSource: e.local.DefaultSource,
		Resolve:       e.names.known,
	}
}

// seekHosts is one pass over those asked for, or over all.
func (e *Engine) seekHosts(ctx context.Context, asked map[string]seek, all bool) {
	if e.beginChange(ctx) != nil {
		return
	}
	defer e.endChange()
	if e.closing.Load() {
		return
	}
	old := e.view.Load()
	here := e.here(old.setup.Listen)
	e.ports.keep(old.list)
	list := slices.Clone(old.list)
	heirs := map[*control]*control{}
	for i, c := range old.list {
		q, ok := asked[c.conn.Name]
		if !ok && !all {
			continue
		}
		if k := c.look(here, old.setup, q, all); k != nil {
			list[i], heirs[c] = k, k
		}
	}
	if len(heirs) > 0 {
		e.view.Store(newView(old.setup, list))
	}
	e.settlePorts()
	for c, k := range maps.All(heirs) {
		c.home.box.post(func() { c.bequeath(k) })
	}
	for name, q := range asked {
		if k := e.view.Load().byName[name]; k != nil && q.round != 0 && heirs[old.byName[name]] == nil {
			k.home.box.post(func() { k.resume(q.round) })
		}
	}
}

// look orients again. It returns an heir if the connection has to go on with other hosts.
func (c *control) look(here policy.Here, setup policy.Setup, q seek, all bool) *control {
	found, why := q.rest, error(nil)
	var o, refused *policy.Oriented
	if len(found) == 0 {
		found, refused, why = c.e.find(c.conn, setup, here)
	}
	if len(found) > 0 {
		o = found[0]
	}
	switch {
	case o != nil && c.oriented != nil && sameHosts(o, c.oriented):
		if all {
			c.home.box.post(c.found)
		}
		if len(q.rest) == 0 && slices.EqualFunc(found[1:], c.others, sameHosts) || q.round == 0 && c.isBusy() {
			return nil
		}
	case c.oriented != nil && q.round == 0 && c.isBusy() && here.IsLocal(c.oriented.LocalAddr):
		return nil // what is up, or on its way, goes on; the next round looks again
	case o == nil && c.oriented == nil && !c.isOther(refused):
		c.home.box.post(func() { c.stillWithout(why) })
		return nil
	case o == nil && c.oriented != nil && (c.isWanted() || c.conn.Auto == policy.AutoOnDemand):
		// Its traffic stays where its shunts say, and every round looks again.
		c.home.box.post(func() { c.lose(why) })
		return nil
	}
	k := newControl(c.e, c.conn, setup, found, why)
	k.awaits(setup, here, refused)
	k.carried, k.resumes = q.carried, q.round
	if len(q.rest) > 0 {
		k.met = c.met
	}
	return k
}

// isOther reports whether a connection without hosts has to go on as one that is refused between these: until now nobody knew what traffic it protects, or it was another.
func (c *control) isOther(refused *policy.Oriented) bool {
	return refused != nil && refused.RemoteAddr.IsValid() && (c.side == nil || !sameHosts(refused, c.side))
}

func sameHosts(a, b *policy.Oriented) bool {
	return a.LeftIsLocal == b.LeftIsLocal && a.LocalAddr == b.LocalAddr && a.RemoteAddr == b.RemoteAddr
}

func (c *control) isUp() bool     { return c.peek().State == phaseUp.String() }
func (c *control) isWanted() bool { return c.peek().Wanted }

// isBusy reports whether it is up or being negotiated.
func (c *control) isBusy() bool { return c.isUp() || c.peek().State == phaseNegotiating.String() }

func (c *control) peek() ConnectionStatus {
	c.public.mu.Lock()
	defer c.public.mu.Unlock()
	return c.public.ConnectionStatus
}

// stillWithout notes why a connection without hosts still has none.
func (c *control) stillWithout(why error) {
	c.without = why
	c.publish(func(s *ConnectionStatus) { s.Why = why.Error() })
}

// lose takes note that this host's address has gone from under a connection that is to remain: its SAs end, since nothing can be sent any more from where the
// peer knows us, and revival goes on.
func (c *control) lose(why error) {
	if c.gone || c.lost {
		return
	}
	c.lost, c.without = true, why
	c.publish(func(s *ConnectionStatus) { s.Why, s.LastError = why.Error(), why.Error() })
	c.tell(event.Event{Level: event.Warn, Text: fmt.Sprintf("connection %q has lost its hosts: %v; it goes on as soon as they are back", c.conn.Name, why)})
	for _, s := range c.e.shards {
		s.box.post(func() { s.abandonAll(c) })
	}
}

// abandonAll ends the IKE SAs of a connection in this shard whose hosts are not any more: for whoever shares them too, and without a word to the peer, which
// would come from nowhere.
func (s *shard) abandonAll(c *control) {
	for _, spi := range s.sortedSPIs(func(a *sa) bool { return a.user(c) >= 0 && !a.over }) {
		if a := s.sas[spi]; a != nil {
			s.e.shares.remove(a.share, a.spi)
			s.step(a, machine.CloseIKE{Reason: event.ReasonPathFailed})
		}
	}
}

// found takes note that the hosts are there, and goes on at once where lose has left off.
func (c *control) found() {
	if !c.lost || c.gone {
		return
	}
	c.lost, c.without = false, nil
	c.publish(func(s *ConnectionStatus) { s.Why = "" })
	c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %s has its hosts again", c.describe())})
	if c.phase == phaseWaiting && !c.e.closing.Load() {
		c.startRound()
	}
}

// seeksHosts reports whether a round has to wait until its hosts have been looked for: names are looked up for each, and an address of ours may have gone.
func (c *control) seeksHosts() bool {
	if c.sought {
		c.sought = false
		return false
	}
	named := len(c.conn.Names()) > 0
	if !named && !c.astray() {
		return false
	}
	e, id := c.e, c.roundID
	go func() {
		if named {
			e.lookUp(c)
		}
		e.seeker.ask(c.conn.Name, seek{round: id})
	}()
	return true
}

// astray reports whether our address is another than before, or gone.
func (c *control) astray() bool {
	o := c.oriented
	if o == nil || c.lost {
		return true
	}
	if o.Local.Host.Kind == policy.HostDefaultRoute {
		a, err := c.e.local.DefaultSource(o.RemoteAddr)
		return err != nil || a.Unmap() != o.LocalAddr
	}
	return !c.e.local.IsLocal(o.LocalAddr)
}

// resume lets the round go on that has waited for its hosts.
func (c *control) resume(round int) {
	if c.gone || c.phase != phaseNegotiating || c.roundID != round || c.attempt != nil {
		return
	}
	c.sought = true
	c.startRoundAsked(c.round.asked)
}

// triesOther goes on with the next address of a peer that has several: they are rungs of one attempt.
func (c *control) triesOther() bool {
	if len(c.others) == 0 || c.sas > 0 || c.gone || c.phase != phaseNegotiating || c.e.closing.Load() || !c.wanted && len(c.ups) == 0 {
		return false
	}
	next := c.others[0]
	c.tell(event.Event{Level: event.Info, Kind: event.KindFallback, Text: fmt.Sprintf("connection %q: %s has another address: trying %s", c.conn.Name, next.Remote.Host, next.RemoteAddr)})
	c.e.seeker.ask(c.conn.Name, seek{round: c.roundID, rest: c.others, carried: c.round.attempts})
	return true
}

// bequeath hands over to a control with other hosts. The SAs between the old ones end first.
func (c *control) bequeath(k *control) {
	if c.gone {
		k.gone = true // whoever took c out of the set took its name too
		return
	}
	k.wanted, k.roundID = k.wanted || c.wanted, max(k.roundID, c.roundID) // somebody may have met k first
	if c.ladder != nil {
		k.ladder = c.ladder
	}
	if k.phase == phaseDown && (c.phase == phaseNegotiating || c.phase == phaseWaiting) {
		k.phase = c.phase
	}
	k.demand = c.demand
	k.upSince, k.ups, k.downs = c.upSince, append(c.ups, k.ups...), append(c.downs, k.downs...)
	k.watched.Add(c.watched.Swap(0))
	c.ups, c.downs, c.wanted, c.gone, c.heir = nil, nil, false, true, k
	c.home.alarms.unset(c)
	c.stopDial()
	resume(c.e.shares.leave(c))
	if c.sas == 0 && c.attempt == nil {
		k.inherit(c)
		return
	}
	w := newWaiter()
	c.watch(&c.downs, w)
	c.roundID++
	left := len(c.e.shards)
	for _, s := range c.e.shards {
		s.box.post(func() {
			s.abandonAll(c)
			c.home.box.post(func() {
				if left--; left == 0 {
					c.settle()
				}
			})
		})
	}
	go func() {
		if !errors.Is(w.wait(context.Background(), c.e.stopped, nil), errStopped) {
			c.home.box.post(func() { k.inherit(c) })
		}
	}()
}

// inherit begins in the place of a control with other hosts.
func (c *control) inherit(old *control) {
	if c.gone {
		return
	}
	was := old.oriented
	hosts := c.oriented
	if c.refused {
		hosts = c.side
	}
	if hosts == nil {
		old.idle(policy.ShuntNone, nil)
		c.set(phaseDown)
		c.tell(event.Event{Level: event.Warn, Text: fmt.Sprintf("connection %q has no hosts any more: %v", c.conn.Name, c.why)})
		if (c.resumes != 0 || c.wanted) && !c.conn.IsShunt() {
			c.sought = true
			c.startRound()
		}
		return
	}
	if c.refused {
		c.tell(event.Event{Level: event.Warn, Text: fmt.Sprintf("connection %q cannot be used: %v", c.conn.Name, c.why)})
	} else if was == nil || !sameHosts(was, hosts) {
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %s: these are its hosts now", c.describe())})
	}
	switch {
	case c.conn.IsShunt():
		c.set(phaseDown)
		if c.wanted {
			c.place()
		}
	case c.attempt != nil: // somebody has met it before us
	case c.resumes != 0 && c.phase == phaseNegotiating && c.roundID == c.resumes, c.wanted && hosts.RemoteAddr.IsValid():
		c.sought = true
		c.startRound()
	case hosts.RemoteAddr.IsValid() && was == nil && (c.conn.Auto == policy.AutoStart || c.conn.Auto == policy.AutoKeep):
		c.sought = true
		c.up(nil)
	default:
		c.set(phaseDown)
		c.base(nil)
	}
}

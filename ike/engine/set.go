package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suggest"
)

// ConnectionStatus is one connection as an operator sees it.
type ConnectionStatus struct {
	Name      string
	Conn      *policy.Connection
	Oriented  *policy.Oriented // nil: not oriented, Why says why
	Why       string
	Wanted    bool   // up was asked for, revival keeps it
	State     string // "down", "negotiating", "up", "waiting for revival"; of a shunt "down", "in place"
	Path      path.Path
	LastError string
	NextTry   time.Time
	ChildUp   []bool // by index in Conn.Children: a Child SA is installed; nil for a template
}

// Apply swaps the policy set atomically: added connections are loaded (and started if auto=start says so), removed ones go down, unchanged ones keep
// their SAs; a changed one goes down and is loaded anew. One with auto=ignore is loaded by Add alone, and stays as long as the set has it. On an error the old set stays. Apply returns when what had to go down is down, or when
// ctx ends.
func (e *Engine) Apply(ctx context.Context, set *policy.Set) error {
	if err := checkSet(set); err != nil {
		return err
	}
	if err := e.beginChange(ctx); err != nil {
		return err
	}
	if e.closing.Load() {
		e.endChange()
		return errShutdown
	}
	old := e.view.Load()
	var fresh, gone []*control
	kept, unresolved := map[*control]bool{}, false
	var refused []string
	list := make([]*control, 0, len(set.Connections))
	var load []*policy.Connection
	for _, c := range set.Connections {
		was := old.byName[c.Name]
		if c.Auto == policy.AutoIgnore && (was == nil || was.conn.Auto != policy.AutoIgnore) { // one that Add has loaded stays
			continue
		}
		if was != nil && (was.oriented != nil || was.side != nil) && was.conn.Hash() == c.Hash() && sameCarriers(old.setup, set.Setup) {
			kept[was], unresolved = true, unresolved || was.oriented == nil && !was.refused
			if was.refused {
				refused = append(refused, c.Name)
			}
			was.written.Store(c)
			list = append(list, was)
			continue
		}
		list, load = append(list, nil), append(load, c)
	}
	e.ports.keep(list)
	here := e.here(set.Setup.Listen)
	for i := range list {
		if list[i] == nil {
			list[i] = e.orient(load[len(fresh)], set.Setup, here)
			fresh = append(fresh, list[i])
		}
	}
	for _, was := range old.list {
		if !kept[was] {
			gone = append(gone, was)
		}
	}
	e.swap(ctx, newView(set.Setup, list), fresh, gone)
	if unresolved {
		e.refreshNames()
	}
	for _, name := range refused { // what it needs may be free now
		e.seeker.ask(name, seek{})
	}
	return nil
}

// beginChange waits for its turn to change the set. A change may last as long as the deletes that it sends.
func (e *Engine) beginChange(ctx context.Context) error {
	select {
	case e.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another change of the connections is under way: %w", ctx.Err())
	case <-e.stopped:
		return errStopped
	}
}

func (e *Engine) endChange() { <-e.change }

// sameCarriers reports whether two setups mean the same for initiating.
func sameCarriers(a, b policy.Setup) bool { return a.ListenUDP == b.ListenUDP && a.Listen == b.Listen }

func checkSet(set *policy.Set) error {
	if set == nil {
		return errors.New("engine: no set to apply")
	}
	seen := map[string]*policy.Connection{}
	for _, c := range set.Connections {
		if first := seen[c.Name]; first != nil {
			return fmt.Errorf("two connections have the name %q (%s and %s): rename one", c.Name, first.Position, c.Position)
		}
		seen[c.Name] = c
		if len(c.Children) == 0 {
			return fmt.Errorf("connection %q (%s) protects nothing: it has no Child SA", c.Name, c.Position)
		}
	}
	return nil
}

// swap puts a view in force and ends the change: strangers meet the new one at once; what is gone goes down, and then what is fresh starts. When ctx ends
// early all that goes on without the caller: what an old connection leaves must not be cleared after a new one has put its own in the same place.
func (e *Engine) swap(ctx context.Context, v *view, fresh, gone []*control) {
	e.view.Store(v)
	e.traffic.load(v.list)
	next := successors(v, gone)
	down := e.takeDown(gone, next, event.ReasonOperator)
	finish := func() {
		e.settlePorts()
		for _, c := range fresh {
			c.home.box.post(c.load)
		}
		for c, k := range next { // behind its load, which puts its policies in their places
			k.home.box.post(func() { c.home.box.post(c.letGo) })
		}
		e.endChange()
	}
	if e.awaitDown(ctx, down) {
		finish()
		return
	}
	go func() {
		e.awaitDown(context.WithoutCancel(ctx), down)
		finish()
	}()
}

// successors are the connections in the place of those that go, where nothing of what they protect may leave in clear until they are up.
func successors(v *view, gone []*control) map[*control]*control {
	next := map[*control]*control{}
	for _, c := range gone {
		if k := v.byName[c.conn.Name]; k != nil && k.holdsFromLoad() {
			next[c] = k
		}
	}
	return next
}

// holdsFromLoad reports whether a connection, by what it says, holds its traffic back or asks for SAs with it as soon as it is loaded. It may be asked anywhere.
func (c *control) holdsFromLoad() bool {
	if c.shunts() == nil {
		return false
	}
	shunt := c.conn.Negotiation
	switch {
	case c.conn.IsShunt():
		if shunt = c.conn.Shunt; !c.standsFromLoad() {
			return false
		}
	case c.conn.Auto == policy.AutoOnDemand:
		return true
	case c.conn.Auto != policy.AutoStart && c.conn.Auto != policy.AutoKeep:
		return false
	}
	action, route := shuntAction(shunt)
	return route && action != kernel.Pass
}

// letGo takes away what a connection that is gone has held and the one in its place does not protect.
func (c *control) letGo() {
	c.holds = false
	o := c.shunts()
	if o == nil {
		return
	}
	for i := range o.Children {
		c.e.policies.leave(c.home, c, policyID(o, i, o.RemoteTS(i)))
	}
}

// takeDown takes connections out of the set and begins to take them down. What those with a successor have protected is held until letGo.
func (e *Engine) takeDown(gone []*control, next map[*control]*control, reason event.Reason) []*waiter {
	waiters := make([]*waiter, len(gone))
	for i, c := range gone {
		w := newWaiter()
		waiters[i] = w
		c.home.box.post(func() {
			c.gone, c.holds = true, next[c] != nil
			c.down(w, reason, deleteLinger)
		})
	}
	return waiters
}

// awaitDown waits until they are down; false says that ctx ended before. What could not be taken away was told as an event.
func (e *Engine) awaitDown(ctx context.Context, down []*waiter) bool {
	for _, w := range down {
		if _ = w.wait(ctx, e.stopped, nil); ctx.Err() != nil {
			return false
		}
	}
	return true
}

// load starts a connection that was put into the set, as auto= says. Called in the home shard.
func (c *control) load() {
	if c.gone {
		return
	}
	switch {
	case c.why == nil:
	case c.refused: // its traffic is known, and what it needs may become free
		c.tell(event.Event{Level: event.Warn, Text: fmt.Sprintf("loaded connection %q, but it cannot be used: %v", c.conn.Name, c.why)})
		c.sought = true
		c.autoStart()
		return
	case len(c.conn.Names()) == 0:
		c.wanted = c.standsFromLoad() // once its address comes
		c.tell(event.Event{Level: event.Warn, Text: fmt.Sprintf("loaded connection %q, but it cannot be used: %v", c.conn.Name, c.why)})
		return
	default:
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("loaded connection %q; its names are being looked up", c.conn.Name)})
		c.clearUntilFound()
		if c.conn.Auto == policy.AutoStart || c.conn.Auto == policy.AutoKeep {
			c.up(nil)
		} else {
			c.base(nil)
			c.e.refreshNames()
		}
		return
	}
	c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("loaded connection %s", c.describe())})
	switch {
	case c.conn.IsShunt():
		if c.standsFromLoad() {
			c.up(nil)
		}
	case c.oriented.RemoteAddr.IsValid():
		c.autoStart()
	}
}

// autoStart does what auto= says.
func (c *control) autoStart() {
	switch c.conn.Auto {
	case policy.AutoStart, policy.AutoKeep:
		c.up(nil)
	case policy.AutoOnDemand:
		c.base(nil)
	case policy.AutoIgnore, policy.AutoAdd:
	}
}

// Add puts one connection into the set, or replaces it; the replaced one goes down first.
func (e *Engine) Add(ctx context.Context, c *policy.Connection) error {
	if err := checkSet(&policy.Set{Connections: []*policy.Connection{c}}); err != nil {
		return err
	}
	if err := e.beginChange(ctx); err != nil {
		return err
	}
	if e.closing.Load() {
		e.endChange()
		return errShutdown
	}
	old := e.view.Load()
	list, gone := without(old.list, c.Name)
	e.ports.keep(list)
	k := e.orient(c, old.setup, e.here(old.setup.Listen))
	e.swap(ctx, newView(old.setup, append(list, k)), []*control{k}, gone)
	return nil
}

// Delete takes a connection down and out of the set.
func (e *Engine) Delete(ctx context.Context, name string) error {
	if err := e.beginChange(ctx); err != nil {
		return err
	}
	old := e.view.Load()
	list, gone := without(old.list, name)
	if len(gone) == 0 {
		e.endChange()
		return e.unknown(name)
	}
	e.swap(ctx, newView(old.setup, list), nil, gone)
	return nil
}

func without(list []*control, name string) (rest, gone []*control) {
	for _, c := range list {
		if c.conn.Name == name {
			gone = append(gone, c)
		} else {
			rest = append(rest, c)
		}
	}
	return rest, gone
}

func (e *Engine) unknown(name string) error {
	v := e.view.Load()
	if of, _ := v.ofInstance(name); of != nil {
		return fmt.Errorf("%w named %q is loaded: that is one peer of connection %q, which down, rekey-child and explain take", ErrNoConnection, name, of.conn.Name)
	}
	names := make([]string, len(v.list))
	for i, c := range v.list {
		names[i] = c.conn.Name
	}
	meant := suggest.DidYouMean(name, names)
	if meant != "" {
		meant = "; " + meant
	}
	return fmt.Errorf("%w named %q is loaded%s (`ikectl connections` lists what is, `ikectl add` loads one from the file)", ErrNoConnection, name, meant)
}

// ErrNoConnection says that a name is not in the set.
var ErrNoConnection = errors.New("no connection")

// Up brings a connection up and calls progress for each event of it, in order, until its Child SA is installed (nil) or every rung has failed
// (an *UpError). Cancelling ctx stops the waiting, not the negotiation.
func (e *Engine) Up(ctx context.Context, name string, progress func(event.Event)) error {
	c := e.view.Load().byName[name]
	if c == nil {
		return e.unknown(name)
	}
	if c.oriented == nil && !c.refused && len(c.conn.Names()) == 0 {
		var err error
		if c, err = e.reorient(ctx, name); err != nil {
			return err
		}
	}
	return e.await(ctx, c, progress, c.up)
}

// Down takes a connection, or NAME[N], one instance of a template, down: deletes are sent, revival stops. It returns when its SAs are gone.
func (e *Engine) Down(ctx context.Context, name string, progress func(event.Event)) error {
	view := e.view.Load()
	c := view.byName[name]
	if of, number := view.ofInstance(name); of != nil {
		return e.downInstance(ctx, of, number, progress)
	}
	if c == nil {
		return e.unknown(name)
	}
	return e.await(ctx, c, progress, func(w *waiter) { c.down(w, event.ReasonOperator, deleteLinger) })
}

func (e *Engine) await(ctx context.Context, c *control, progress func(event.Event), start func(*waiter)) error {
	w := newWaiter()
	if !c.home.box.post(func() { start(w) }) {
		return errStopped
	}
	err := w.wait(ctx, e.stopped, progress)
	if ctx.Err() != nil {
		c.home.box.post(func() { c.unwatch(w) })
	}
	return err
}

// reorient looks again which end of a connection is this host: an address may have come meanwhile.
func (e *Engine) reorient(ctx context.Context, name string) (*control, error) {
	if err := e.beginChange(ctx); err != nil {
		return nil, err
	}
	defer e.endChange()
	old := e.view.Load()
	c := old.byName[name]
	switch {
	case c == nil:
		return nil, e.unknown(name)
	case c.oriented != nil || c.refused:
		return c, nil
	}
	e.ports.keep(old.list)
	k := e.orient(c.conn, old.setup, e.here(old.setup.Listen))
	list := make([]*control, len(old.list))
	for i, was := range old.list {
		if list[i] = was; was == c {
			list[i] = k
		}
	}
	e.view.Store(newView(old.setup, list))
	e.settlePorts()
	return k, nil
}

// Connections describes the loaded connections, in file order.
func (e *Engine) Connections() []ConnectionStatus {
	var out []ConnectionStatus
	for _, c := range e.view.Load().list {
		c.public.mu.Lock()
		s := c.public.ConnectionStatus
		c.public.mu.Unlock()
		s.Conn = c.written.Load() // the same, with the lines where they are now
		out = append(out, s)
	}
	return out
}

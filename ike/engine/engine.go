// Package engine runs many IKE SAs: shards that own machines, the doorman before them, the connections and their revival, and snapshots.
//
// Who owns what. A shard goroutine owns its machines, their timers and the connections whose home it is; nothing of that has a lock. What spans
// shards is seven small tables with a lock each (streams, policies, identities, shares, keepalives, traffic, the published state of a connection); none of these locks
// is held while another is taken, nor across a call that could block.
package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/bits"
	mrand "math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Options are the parts that an Engine is built from.
type Options struct {
	Mux      transport.Mux
	Datapath kernel.Datapath
	Secrets  *auth.Store
	Local    LocalAddrs
	Resolver Resolver      // of hosts that are names; nil: they stay unresolved
	Updown   kernel.Updown // runs leftupdown=; nil: nothing is run
	Choice   kernel.Choice // which datapaths Datapath is made of: a connection that asks for what is not there is refused. The zero value is one for all
	// Events is called from shard goroutines and must not block: NewPump makes a function that hands over to a slow consumer. nil: nobody listens.
	Events func(event.Event)
	Shards int       // zero: GOMAXPROCS; at most 256
	Rand   io.Reader // nil: crypto/rand. Given, every machine draws from its own stream derived from it, so that one shard is reproducible
}

// LocalAddrs answers which addresses are ours, for orientation. It is called from shard goroutines too and must not block.
type LocalAddrs interface {
	IsLocal(a netip.Addr) bool
	// DefaultSource is the address the system would use towards remote; for %defaultroute.
	DefaultSource(remote netip.Addr) (netip.Addr, error)
}

// LocalInside is what a LocalAddrs may know in addition: an address of ours inside a prefix. With it, packets that this host itself sends into a
// tunnel get a source that the tunnel's selectors hold, without leftsourceip=.
type LocalInside interface {
	AddrInside(p netip.Prefix) (netip.Addr, bool)
}

const maxShards = 256 // our SPIs carry the shard in their low octet

// Engine runs IKE SAs. Methods are safe for concurrent use.
type Engine struct {
	// Constant after New.
	mux     transport.Mux
	attach  func(p path.Path, done func(error)) // transport.Attacher's, or nil
	keep    func(p path.Path)                   // beside attach
	choice  kernel.Choice
	dp      kernel.Datapath
	local   LocalAddrs
	updown  kernel.Updown // nil: none
	events  func(event.Event)
	shards  []*shard
	epoch   time.Time // deadlines are kept as durations since this
	seed    maphash.Seed
	cookies cookies
	workers workers
	make    makers
	// candidates is what every machine gets: one function for all of them.
	candidates func(path.Path) []*policy.Oriented

	// Atomic.
	secrets  atomic.Pointer[auth.Store]
	view     atomic.Pointer[view]
	halfOpen atomic.Int64
	closing  atomic.Bool
	counters counters

	// Each with its own lock inside.
	streams    streams
	policies   policies
	identities identities
	shares     shares
	keepalives keepalives
	traffic    traffic
	door       door
	names      names
	seeker     seeker

	// Of whoever changes the set.
	ports ports

	rand struct { // guarded by mu
		mu     sync.Mutex
		source io.Reader // nil: crypto/rand
	}
	change  chan struct{}   // capacity 1, full while Apply, Add, Delete or Shutdown changes the set: one at a time
	life    context.Context // ends with Run; dials hang on it
	kill    context.CancelFunc
	stopped chan struct{}
	stop    sync.Once
}

// New makes an engine; Run starts it.
func New(o Options) (*Engine, error) {
	switch {
	case o.Mux == nil:
		return nil, errors.New("engine: Options.Mux is missing")
	case o.Datapath == nil:
		return nil, errors.New("engine: Options.Datapath is missing")
	case o.Local == nil:
		return nil, errors.New("engine: Options.Local is missing")
	case o.Shards < 0 || o.Shards > maxShards:
		return nil, fmt.Errorf("engine: %d shards asked for, 1 to %d allowed", o.Shards, maxShards)
	}
	if o.Shards == 0 {
		o.Shards = min(runtime.GOMAXPROCS(0), maxShards)
	}
	if o.Secrets == nil {
		o.Secrets = auth.NewStore(nil)
	}
	e := &Engine{
		mux: o.Mux, dp: o.Datapath, local: o.Local, updown: o.Updown, events: o.Events, choice: o.Choice, epoch: time.Now().Add(-time.Second),
		seed: maphash.MakeSeed(), make: machineMakers, stopped: make(chan struct{}),
		change: make(chan struct{}, 1),
	}
	if a, ok := o.Mux.(transport.Attacher); ok {
		e.attach, e.keep = a.AttachESP, a.KeepESP
	}
	e.candidates = func(p path.Path) []*policy.Oriented { return e.view.Load().between(p) }
	e.life, e.kill = context.WithCancel(context.Background())
	e.rand.source = o.Rand
	e.secrets.Store(o.Secrets)
	e.view.Store(newView(policy.Setup{}, nil))
	e.streams.init()
	e.policies.init(e)
	e.identities.init()
	e.shares.init()
	e.keepalives.init()
	e.traffic.init()
	e.workers.init()
	e.names.init(o.Resolver)
	e.seeker.init()
	e.ports.init()
	if err := e.cookies.init(e.newRand()); err != nil {
		return nil, fmt.Errorf("engine: no randomness for the cookie secret: %w", err)
	}
	shardBits := bits.Len(uint(o.Shards - 1))
	for i := range o.Shards {
		e.shards = append(e.shards, newShard(e, i, shardBits))
	}
	return e, nil
}

// Run serves until ctx ends. Shutdown first for a clean end. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(e.workers.run)
	}
	for _, s := range e.shards {
		all.Go(func() { s.run(ctx) })
	}
	all.Go(func() { e.runSeeker(ctx) })
	<-ctx.Done()
	e.stop.Do(func() { close(e.stopped) })
	e.kill()
	e.workers.close()
	all.Wait()
	return nil
}

// SetSecrets swaps the credentials and returns those before, for a caller that has to go back. Jobs under way keep the old ones.
func (e *Engine) SetSecrets(s *auth.Store) (before *auth.Store) {
	if s == nil {
		s = auth.NewStore(nil)
	}
	return e.secrets.Swap(s)
}

// newRand makes the source of one machine: crypto/rand, or a stream of its own that is derived from Options.Rand.
func (e *Engine) newRand() io.Reader {
	if e.rand.source == nil {
		return rand.Reader
	}
	var seed [32]byte
	e.rand.mu.Lock()
	_, err := io.ReadFull(e.rand.source, seed[:])
	e.rand.mu.Unlock()
	if err != nil {
		return failedRand{err}
	}
	return mrand.NewChaCha8(seed)
}

// failedRand hands the error of a source on to whoever reads, who knows what to refuse.
type failedRand struct{ err error }

func (f failedRand) Read([]byte) (int, error) { return 0, f.err }

// homeOf is the shard that owns a connection: by name, so that it stays when the set changes.
func (e *Engine) homeOf(name string) *shard {
	h := uint32(2166136261) // FNV-1a: the same on every run, unlike maphash
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return e.shards[h%uint32(len(e.shards))]
}

// emit hands an event to the listener. s is nil outside a shard.
func (e *Engine) emit(s *shard, ev event.Event) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	if s != nil {
		s.recent.add(ev)
	}
	if e.events != nil {
		e.events(ev)
	}
}

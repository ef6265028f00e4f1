// Package engine runs many IKE SAs: shards that own machines, the doorman before them, the connections and their revival, and snapshots.
package engine

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
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
	Events   func(event.Event) // must not block; called from shard goroutines
	Shards   int               // zero: GOMAXPROCS
	Rand     io.Reader         // nil: crypto/rand. Given, every machine draws from its own stream derived from it, so that one shard is reproducible
}

// LocalAddrs answers which addresses are ours, for orientation.
type LocalAddrs interface {
	IsLocal(a netip.Addr) bool
	// DefaultSource is the address the system would use towards remote; for %defaultroute.
	DefaultSource(remote netip.Addr) (netip.Addr, error)
}

// Engine runs IKE SAs. Methods are safe for concurrent use.
type Engine struct{}

// New makes an engine; Run starts it.
func New(o Options) (*Engine, error) { return &Engine{}, nil }

// Run serves until ctx ends. Shutdown first for a clean end.
func (e *Engine) Run(ctx context.Context) error { return nil }

// Engine implements transport.Handler.
var _ transport.Handler = (*Engine)(nil)

// IKE implements transport.Handler.
func (e *Engine) IKE(d transport.Datagram) bool { return false }

// Accepted implements transport.Handler.
func (e *Engine) Accepted(p path.Path) {}

// Lost implements transport.Handler.
func (e *Engine) Lost(p path.Path, err error) {}

// KernelEvent takes the datapath's events.
func (e *Engine) KernelEvent(ev kernel.Event) {}

// Apply swaps the policy set atomically: added connections are loaded (and started if auto=start says so), removed ones go down, unchanged ones keep
// their SAs. On an error the old set stays.
func (e *Engine) Apply(ctx context.Context, set *policy.Set) error { return nil }

// SetSecrets swaps the credentials.
func (e *Engine) SetSecrets(s *auth.Store) {}

// Up brings a connection up and calls progress for each event of it, in order, until its Child SA is installed (nil) or every rung has failed
// (an *UpError). Cancelling ctx stops the waiting, not the negotiation.
func (e *Engine) Up(ctx context.Context, name string, progress func(event.Event)) error { return nil }

// Down takes a connection down: deletes are sent, revival stops. It returns when its SAs are gone.
func (e *Engine) Down(ctx context.Context, name string, progress func(event.Event)) error { return nil }

// Delete takes a connection down and out of the set.
func (e *Engine) Delete(ctx context.Context, name string) error { return nil }

// Add puts one connection into the set, or replaces it.
func (e *Engine) Add(ctx context.Context, c *policy.Connection) error { return nil }

// Status streams a snapshot of every IKE SA, shard by shard.
func (e *Engine) Status(yield func(machine.Snapshot, []kernel.Usage) bool) {}

// Connections describes the loaded connections.
func (e *Engine) Connections() []ConnectionStatus { return nil }

// ConnectionStatus is one connection as an operator sees it.
type ConnectionStatus struct {
	Name      string
	Conn      *policy.Connection
	Oriented  *policy.Oriented // nil: not oriented, Why says why
	Why       string
	Wanted    bool   // up was asked for, revival keeps it
	State     string // "down", "negotiating", "up", "waiting for revival"
	Path      path.Path
	LastError string
	NextTry   time.Time
}

// Shutdown sends deletes, waits for them at most until ctx ends, and removes all SAs and policies.
func (e *Engine) Shutdown(ctx context.Context) error { return nil }

// UpError says what each rung answered.
type UpError struct {
	Conn     string
	Attempts []Attempt
}

// Attempt is one try on one rung.
type Attempt struct {
	Path  path.Path
	Close event.Close
	Took  time.Duration
}

func (e *UpError) Error() string { return e.Conn }

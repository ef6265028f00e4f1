package kernel

import (
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/ts"
)

// Updown runs the scripts of leftupdown= and rightupdown=, with the verbs of libreswan: prepare and route when traffic of a tunnel begins to be handled, up when it has
// its first SAs, down when it has lost its last, unroute when nothing is left of it. Methods return at once and are safe for concurrent use; what is asked for in one
// Order of a connection is run in that order.
type Updown interface {
	// Route runs prepare and route, unless they have been.
	Route(Tunnel)
	// Up runs prepare and route, unless they have been, and up, unless it has been: a rekeying runs nothing. done is called once, on any goroutine, also
	// before Up returns. With an error the tunnel is not up: route or up has failed.
	Up(t Tunnel, done func(error))
	// Down runs down, if the tunnel is up.
	Down(PolicyID, LastPair)
	// Unroute runs unroute, if the tunnel is routed, after a down that is missing.
	Unroute(PolicyID)
	// After calls f, on any goroutine, when what has been asked for tunnels of a connection is done.
	After(connection string, f func())
}

// Tunnel is what a script is told about: a policy with its connection.
type Tunnel struct {
	Policy     PolicyID
	Order      string
	Script     string // a command for /bin/sh: text of the configuration and of nobody else
	Connection string
	Instance   bool // of one peer of a template
	Transport  bool
	Words      string // what the connection is made of, "IKEv2+PSK+ENCRYPT+TUNNEL+PFS"

	LocalAddr, RemoteAddr netip.Addr // invalid: not known
	LocalID, RemoteID     string     // the peer's choice, once there are SAs: for the environment only
	Local, Remote         ts.Set
	SourceIP              netip.Addr // leftsourceip=, or invalid
	MTU                   int        // mtu=, or zero
	Interface             Interface
	MarkIn, MarkOut       Mark

	SPIIn, SPIOut SPI       // zero without SAs
	Added         time.Time // zero without SAs

	// Tell hears, on any goroutine, of each line of output and each failure. It must not block.
	Tell func(failed bool, text string)
}

// LastPair is the pair of SAs that was the last of a tunnel, with what it has carried.
type LastPair struct {
	SPIIn, SPIOut     SPI
	InBytes, OutBytes uint64
}

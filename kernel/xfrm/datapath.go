// Package xfrm is the datapath in the Linux kernel: SAs and policies of XFRM, by netlink.
package xfrm

import (
	"errors"

	"github.com/ikegod/ikegod/kernel"
)

// Config of a Datapath. The network namespace is that of the thread which calls New.
type Config struct {
	// RunDir is the daemon's run directory. A small file in it holds the numbers that this daemon's SAs and policies have, so that the next one finds what
	// a crash left behind. Empty: nothing is kept and nothing found.
	RunDir string
	// UDP, TCP and ESP are the carriers that may be used: those that the kernel has, and whose sockets are prepared for it (UDP_ENCAP, espintcp).
	UDP, TCP, ESP bool
	// SPIs come from this range, so that several datapaths of one machine share the space; zero: 0x10000000 to 0xbfffffff.
	MinSPI, MaxSPI kernel.SPI
	// Notes are for the operator: what is missing and what it means, a sentence each.
	Notes []string
	// Notice takes what an operator must know at once, a sentence each. It must not block. May be nil.
	Notice func(text string)
}

// Datapath implements kernel.Datapath on NETLINK_XFRM.
type Datapath struct{}

// New opens the sockets, removes what an earlier daemon with this RunDir has left behind, and starts. events must not block; it is called on several goroutines.
func New(Config, func(kernel.Event)) (*Datapath, error) {
	return nil, errors.New("xfrm datapath: not in this build yet")
}

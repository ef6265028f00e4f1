// Package kernel is the port between IKE and whatever carries the packets: the Datapath interface, its value types, the choice between
// datapaths, and a fake for unit tests.
package kernel

import (
	"errors"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Request names a request to a Datapath; its completion event carries it back. The caller makes it unique.
type Request uint64

// Datapath carries packets. Requests return at once and complete by one Done event each; nothing here blocks a shard. Methods are safe
// for concurrent use; requests for one PolicyID or SPI complete in the order they were made.
type Datapath interface {
	// Features says what this datapath can do. Constant after start.
	Features() Features
	// Route puts a policy in place (or replaces the one with its ID). It lives without any SA.
	Route(Request, Policy)
	// Unroute takes a policy away. An unknown ID completes without error.
	Unroute(Request, PolicyID)
	// ReserveSPI finds a free inbound SPI for packets that will probably come by these Endpoints; Done.SPI holds it. It is held until Install or Remove,
	// and may be installed with other Endpoints.
	ReserveSPI(Request, Endpoints)
	// Install adds the SAs of the pair; from its completion inbound packets are accepted and outbound packets of the policy are sealed with it.
	// Nothing stays behind when it fails.
	Install(Request, SAPair)
	// Move changes where an installed pair sends (same kind of datapath; the userspace datapath accepts a change of carrier too). Where a pair cannot follow, the
	// error is an ErrCarrier: the Child SA has to be rekeyed. So it has with any other error: the pair may send nowhere, until a later Move succeeds.
	Move(Request, SPI, Endpoints)
	// Remove takes SAs away by inbound SPI, with their outbound halves. Unknown SPIs are ignored.
	Remove(Request, ...SPI)
	// Usage returns counters by inbound SPI, in the order asked; unknown SPIs give a zero Usage.
	Usage(...SPI) []Usage
	// Close takes everything away that this datapath put in place: SAs, policies, routes, rules, nft tables, interfaces.
	Close() error
}

// SPI is an ESP SPI as the inbound side chose it.
type SPI uint32

// PolicyID names a policy; the caller makes it unique and stable: "conn" or "conn/child".
type PolicyID string

// Action is what happens to packets that match a policy.
type Action uint8

// Actions. Protect uses the policy's SA and holds or passes as Fallback says when there is none.
const (
	Protect Action = iota
	Trap           // as Hold, and emit Acquire: ondemand
	Hold           // what fits waits for an SA, for a while, and else is dropped
	Pass
	Drop // drop; what a Trap has caught before goes on waiting
	Reject
)

// Policy is what Route puts in place: traffic between the selectors gets the action.
type Policy struct {
	ID            PolicyID
	Local, Remote ts.Set
	Action        Action
	// SourceIP, if valid, is used as the source of locally made packets (leftsourceip=, or an address of ours inside Local).
	SourceIP netip.Addr
	// LocalAddr and RemoteAddr are this host and the peer, between which IKE and sealed packets travel; invalid: not known.
	LocalAddr, RemoteAddr netip.Addr
	// MTU overrides the inner MTU; zero computes it from the carrier.
	MTU int
	// Priority: smaller is stronger; zero is computed from the width of the selectors.
	Priority int
	// InboundOnly says that this datapath takes no packets that go out: it lets them pass, as by a Pass policy of these selectors, or if the action is Pass itself
	// says nothing about them. What comes in by the SAs of the policy is accepted as before. A split datapath wants that while outbound packets are the other
	// half's. Only XFRM has it.
	InboundOnly bool
	// Led says that packets that go out are routed to the other half of a split datapath, where they go on if this one lets them pass, also after they have waited for
	// an SA. Others that wait would leave in clear, and are dropped before. Only XFRM has it.
	Led bool
	// MarkIn and MarkOut narrow the policy to packets with these marks, in and out. Only XFRM has them.
	MarkIn, MarkOut Mark
	// Interface leads the policy's traffic through an XFRM interface. Only XFRM has it.
	Interface Interface
	// Backend is which datapath its pairs are to be with, where there are two, as in their Endpoints.
	Backend Backend
}

// Mark is a packet's mark and the bits of it that count. The zero Mark is none.
type Mark struct{ Value, Mask uint32 }

// Interface is an XFRM interface: what is routed through it is the traffic of the policies with its ID, and of no others. The zero Interface is none.
type Interface struct {
	Name  string         // such as "ipsec1"
	ID    uint32         // the if_id; not zero
	Addrs []netip.Prefix // put on it
}

// Endpoints says where sealed packets go and which carrier takes them there.
type Endpoints struct {
	Path path.Path
	// Backend is which datapath is to carry them, where there are two; the zero value leaves that to the carrier.
	Backend Backend
	// Held says that the stream of this path does not carry ESP yet: outbound packets of a pair that has sent nothing, and of whose policy there is no older pair, wait until
	// it is moved to where it is without Held. What comes in is accepted before. Only XFRM knows it: others put packets into the stream themselves.
	Held bool
}

// SAPair is the two SAs of a Child SA. In.SPI is ours, Out.SPI the peer's.
//
// In transport mode the selectors hold one address each, as this host sees them. Where a NAT has changed one on the way, OriginalLocal or OriginalRemote is
// the address that the peer has in its packets instead, so that the checksums which it computed can be set right (RFC 7296 2.23.1); invalid: the same.
type SAPair struct {
	Policy        PolicyID
	In, Out       SA
	Local, Remote ts.Set // as negotiated: packets are checked against them both ways (RFC 4301 5.2)
	Endpoints     Endpoints
	Transport     bool // transport mode; tunnel mode otherwise

	OriginalLocal, OriginalRemote netip.Addr
	// Standby says that the pair replaces another of its policy: outbound packets stay with the older pairs until those are removed.
	Standby bool
	// Limits hold for each of the two SAs. Only XFRM counts them.
	Limits Limits
	Flags  Flags
}

// Limits end an SA by what it has carried: at a soft one SoftExpire is sent, at a hard one the SA goes and HardExpire is sent. Zero: no limit.
type Limits struct {
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
}

// Flags change how the headers of a tunnel are made. Only XFRM has them; the zero Flags are what RFC 4301 5.1.2 asks for.
type Flags struct {
	NoECN       bool // ECN bits do not go from the outer to the inner header
	DecapDSCP   bool // the DSCP goes from the outer to the inner header
	NoEncapDSCP bool // the DSCP does not go from the inner to the outer header
	NoPMTUDisc  bool // the outer IPv4 header has no DF
}

// SA is one direction. Keys never print.
type SA struct {
	SPI          SPI
	Suite        suite.Suite // Encr, Integ and SN
	EncrKey      []byte      // with salt for AEADs
	IntegKey     []byte
	ReplayWindow uint32 // packets; zero turns replay protection off
}

// String hides the keys.
func (SA) String() string { return "***" }

// GoString hides the keys.
func (SA) GoString() string { return "***" }

// Features is what a datapath can do.
type Features struct {
	Name        string // "userspace" or "xfrm"
	UDP         bool   // ESP in UDP
	TCP         bool   // ESP in TCP
	PlainESP    bool
	Transport   bool
	ESN         bool
	MoveCarrier bool // Move may change the carrier
	Waits       bool // packets without an SA wait for it, where Policy says that they are protected, held or trapped
	// Lacks is the algorithms that it cannot carry of those that IKE may negotiate for ESP.
	Lacks suite.Lacking
	Notes []string // for the operator: what is missing and what it means, one sentence each
}

// ErrCarrier is why a pair cannot be moved: its SAs have one encapsulation for life, or its keys are with another datapath than the one of the new carrier. A Child SA
// that is made anew on the new path takes its place (RFC 7296 2.8).
var ErrCarrier = errors.New("an SA here cannot change its carrier; it has to be rekeyed")

// Why an installation was refused, where that makes a difference to the peer.
var (
	// ErrAlgorithm: an algorithm of the SA cannot be had here; others may.
	ErrAlgorithm = errors.New("this datapath does not have the algorithm")
	// ErrMemory: there is no memory for it now.
	ErrMemory = errors.New("this datapath has no memory for it")
)

// Usage is the counters of one pair.
type Usage struct {
	SPI                  SPI
	Datapath             string // Features.Name of what carries it
	InPackets, InBytes   uint64
	OutPackets, OutBytes uint64
	LastIn, LastOut      time.Time // zero: never; second resolution is enough
}

// Event is what a Datapath reports: Done, Acquire, SoftExpire, HardExpire, PeerMoved. It calls the function given at its construction, which
// must not block.
type Event interface{ kernelEvent() }

// Done completes a request. Err is nil, or says in an operator's words what the kernel refused and what to do.
type Done struct {
	Request Request
	SPI     SPI
	Err     error
}

// Acquire says that a packet hit a Trap policy. For ICMP both ports hold type and code, the type in the upper octet, as in selectors; a port is zero where it is not to
// be seen, or not chosen yet.
type Acquire struct {
	Policy   PolicyID
	Src, Dst netip.AddrPort
	Protocol uint8
}

// SoftExpire asks for a rekey: the SA of this inbound SPI comes to its end (sequence numbers, bytes, packets).
type SoftExpire struct{ SPI SPI }

// HardExpire says that the SA of this inbound SPI is used up and carries nothing any more.
type HardExpire struct{ SPI SPI }

// PeerMoved says that authentic ESP for an SPI came from another address than its Endpoints (NAT mapping changed).
type PeerMoved struct {
	SPI  SPI
	Path path.Path
}

func (Done) kernelEvent()       {}
func (Acquire) kernelEvent()    {}
func (SoftExpire) kernelEvent() {}
func (HardExpire) kernelEvent() {}
func (PeerMoved) kernelEvent()  {}

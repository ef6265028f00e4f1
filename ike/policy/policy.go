// Package policy is the compiled configuration: native types, immutable after compilation, compared by hash.
package policy

import (
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Set is all that a configuration says.
type Set struct {
	Setup       Setup
	Connections []*Connection // by name, in file order; names are unique
}

// Setup is what "config setup" says.
type Setup struct {
	ListenUDP                    bool
	ListenTCP                    []uint16   // ports, empty: none
	Listen                       netip.Addr // restrict to this local address; invalid: all
	KeepAlive                    time.Duration
	UniqueIDs                    bool
	MaxHalfOpen, CookieThreshold int
	CookieMode                   CookieMode
	SecretsFile                  string            // empty: not written
	Positions                    map[string]string // keyword -> file:line
}

// IsShunt reports whether the connection is a policy alone: it has no IKE, no peer and no Child SAs.
func (c *Connection) IsShunt() bool { return c.Shunt != ShuntNone }

// CookieMode is ddos-mode=.
type CookieMode uint8

// Cookie modes.
const (
	CookieAuto   CookieMode = iota // cookies above CookieThreshold half-open IKE SAs
	CookieAlways                   // busy
	CookieNever                    // unlimited
)

// Connection is one conn. Children has one element here; more come with leftsubnets=.
type Connection struct {
	Name                 string
	Position             string            // file:line of its section, for messages
	Positions            map[string]string // keyword -> file:line of those without left or right, such as "ike"
	Left, Right          End
	Auto                 Auto
	IKE                  suite.Proposals
	Children             []Child
	TCP                  TCP
	Retransmit           Retransmit
	Liveness             time.Duration // dpddelay, zero: off
	Lifetimes            Lifetimes
	Encapsulation        Encapsulation
	Narrowing            bool
	NATKeepAlive         bool
	Failure, Negotiation Shunt
	Shunt                Shunt // type=passthrough, drop or reject: what happens to the traffic always, without IKE. ShuntNone: it is protected
	Backend              Backend
}

// End is left or right.
type End struct {
	Host     Host
	IKEPort  uint16        // leftikeport=; zero: 500 and 4500
	ID       ident.Pattern // for the local end an exact ID; zero ID: the address
	Auth     iana.AuthMethod
	Subnets  ts.Set // empty: the host itself
	SourceIP netip.Addr
	// InterfaceIP is the address on the XFRM interface, with the length of its network (leftinterface-ip=); invalid: none.
	InterfaceIP netip.Prefix
	Updown      string // leftupdown=, a command for /bin/sh; empty: none
	// Protocol and the ports are leftprotoport=: with protocol 0 (any) the ports do not count, 0-65535 is any port, 65535-0 OPAQUE
	// (RFC 7296 3.13.1). Subnets hold them already.
	Protocol           uint8
	StartPort, EndPort uint16
	Positions          map[string]string // keyword -> file:line, so that an error can name the line to look at
}

// HostKind says how a host is written.
type HostKind uint8

// Kinds of host.
const (
	HostAddress HostKind = iota
	HostName
	HostAny
	HostDefaultRoute
)

// Family restricts a host to one version of IP.
type Family uint8

// Families.
const (
	FamilyAny Family = 0
	FamilyV4  Family = 4
	FamilyV6  Family = 6
)

// Host is left= or right=.
type Host struct {
	Kind   HostKind
	Addr   netip.Addr // HostAddress
	Name   string     // HostName
	Family Family     // of what is not an address: %any4, %any6, hostaddrfamily=
}

// Child is what one Child SA protects. Selectors come from the ends.
type Child struct {
	Name         string // "conn" or "conn/1"
	ESP          suite.Proposals
	PFS          bool
	PFSOptional  bool   // with PFS: a peer that does without gets it without
	Left, Right  ts.Set // empty: the host itself, known after orientation; ask Oriented.LocalTS and RemoteTS
	ReplayWindow uint32
	MTU          int
	Transport    bool
	Kernel       Kernel
}

// Kernel is what ipsec.conf says about SAs and policies in the kernel. All Child SAs of a connection have the same. Comparable; the zero value says nothing.
type Kernel struct {
	Priority                           uint32
	MarkIn, MarkOut                    Mark
	Interface                          string // name of the XFRM interface; empty: none
	InterfaceID                        uint32
	MaxBytes, MaxPackets               uint64 // of an SA; zero: no limit
	DecapDSCP, NoEncapDSCP, NoPMTUDisc bool
}

// Mark is a packet's mark and the bits of it that count. The zero Mark is none.
type Mark struct{ Value, Mask uint32 }

// Auto is auto=.
type Auto uint8

// Values of auto=.
const (
	AutoIgnore Auto = iota
	AutoAdd
	AutoOnDemand
	AutoStart
	AutoKeep
)

// TCPMode is enable-tcp=.
type TCPMode uint8

// Values of enable-tcp=.
const (
	TCPNo TCPMode = iota
	TCPYes
	TCPFallback
)

// TCP is how the initiator uses TCP.
type TCP struct {
	Mode       TCPMode
	RemotePort uint16 // tcp-remoteport=; zero: it is not written, and Oriented.TCPPort is the port
}

// Retransmit is the timing of requests on datagrams; Timeout is also the deadline of an exchange on a stream.
type Retransmit struct {
	Interval time.Duration // first delay, doubled each time
	Timeout  time.Duration // in all
}

// Lifetimes are upper bounds; rekeying before them comes later.
type Lifetimes struct {
	IKE, Child time.Duration
}

// Encapsulation is encapsulation=.
type Encapsulation uint8

// Values of encapsulation=.
const (
	EncapAuto Encapsulation = iota
	EncapYes
	EncapNo
)

// Backend is backend=: the datapath of a connection.
type Backend uint8

// Values of backend=.
const (
	BackendAuto      Backend = iota // that of its carrier
	BackendXFRM                     // the kernel's
	BackendUserspace                // ikegod's own
)

// Shunt is what happens to traffic without an SA.
type Shunt uint8

// Values of failureshunt= and negotiationshunt=.
const (
	ShuntNone Shunt = iota
	ShuntPass
	ShuntDrop
	ShuntHold
	ShuntReject
)

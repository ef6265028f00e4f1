// Package message is XFRM netlink messages as bytes, a file per message: what comes after the netlink header, as struct and attributes of
// linux/xfrm.h in the byte order of this machine.
//
// Append adds a message to a slice; Parse reads one and keeps no reference to its input. Attributes that this package does not know are skipped.
package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Type is the type of a netlink message.
type Type uint16

// The messages of XFRM that are here. Nothing is ever flushed, others do that: a machine has more than one owner of SAs.
const (
	NEWSA       Type = 0x10
	DELSA       Type = 0x11
	GETSA       Type = 0x12
	NEWPOLICY   Type = 0x13
	DELPOLICY   Type = 0x14
	GETPOLICY   Type = 0x15
	ALLOCSPI    Type = 0x16
	ACQUIRE     Type = 0x17
	EXPIRE      Type = 0x18
	UPDPOLICY   Type = 0x19
	UPDSA       Type = 0x1a
	POLEXPIRE   Type = 0x1b
	FLUSHSA     Type = 0x1c
	FLUSHPOLICY Type = 0x1d
	MIGRATE     Type = 0x21
	MAPPING     Type = 0x26
)

// Groups of multicast messages: ACQUIRE; EXPIRE with POLEXPIRE; what is done to SAs, and to policies, by whomever; MAPPING.
const (
	GroupAcquire = 1
	GroupExpire  = 2
	GroupSA      = 3
	GroupPolicy  = 4
	GroupMapping = 8
)

// ESP is IP protocol 50, the one that this daemon has SAs for.
const ESP = 50

// Mode of an SA.
type Mode uint8

// Modes.
const (
	Transport Mode = 0
	Tunnel    Mode = 1
)

// Direction of a policy.
type Direction uint8

// Directions.
const (
	In Direction = iota
	Out
	Forward
)

// String prints the direction as iproute2 does.
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	case Forward:
		return "fwd"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// Infinite is no limit.
const Infinite = ^uint64(0)

// errShort says that a message ends before its struct does.
var errShort = errors.New("xfrm message: too short")

var (
	native = binary.NativeEndian
	be     = binary.BigEndian
)

// family of an address; AF_UNSPEC for an invalid one.
func family(a netip.Addr) uint16 {
	switch {
	case a.Is4():
		return unix.AF_INET
	case a.Is6():
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

// putAddr writes an xfrm_address_t; an invalid address is all zero.
func putAddr(b []byte, a netip.Addr) {
	if a.IsValid() {
		copy(b[:16], a.AsSlice())
	}
}

// addr reads an xfrm_address_t.
func addr(b []byte, family uint16) netip.Addr {
	switch family {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[:4]))
	case unix.AF_INET6:
		return netip.AddrFrom16([16]byte(b[:16]))
	}
	return netip.Addr{}
}

// grow appends n zero octets and returns the whole and the new part.
func grow(b []byte, n int) (whole, part []byte) {
	whole = append(b, make([]byte, n)...)
	return whole, whole[len(b):]
}

package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ikegod/ikegod/ike/policy"
)

// parseMark reads "5", "0x5/0xff": without a mask all bits count. 0 is no mark.
func parseMark(s string) (policy.Mark, error) {
	value, mask, masked := strings.Cut(s, "/")
	if strings.HasPrefix(value, "-") {
		return policy.Mark{}, bad("%s: marks that ikegod chooses itself are not supported; write a number", printable(s))
	}
	m := policy.Mark{Mask: 1<<32 - 1}
	v, err := parseUnsigned(value, 0, 1<<32-1)
	if err != nil {
		return policy.Mark{}, err
	}
	m.Value = uint32(v)
	if masked {
		if v, err = parseUnsigned(mask, 1, 1<<32-1); err != nil {
			return policy.Mark{}, err
		}
		m.Mask = uint32(v)
	} else if m.Value == 0 {
		return policy.Mark{}, nil
	}
	if m.Value&^m.Mask != 0 {
		return policy.Mark{}, bad("%s: the mask leaves out bits of the mark, no packet can have it", printable(s))
	}
	return m, nil
}

// xfrmInterface is the value of ipsec-interface=.
type xfrmInterface struct {
	name string
	id   uint32
}

// idOfZero is libreswan's if_id for ipsec0, for 0 is none.
const idOfZero = 16384

// parseInterface reads "no", "yes" (which is 1) or a number: 0 and 1 are numbers here.
func parseInterface(s string) (xfrmInterface, error) {
	if n, err := parseUnsigned(s, 0, 1<<31-1); err == nil {
		i := xfrmInterface{fmt.Sprintf("ipsec%d", n), uint32(n)}
		if n == 0 {
			i.id = idOfZero
		}
		return i, nil
	}
	on, err := parseBool(s)
	switch {
	case err != nil:
		return xfrmInterface{}, bad("%s is neither yes nor no nor a number", quoted(s))
	case on:
		return xfrmInterface{"ipsec1", 1}, nil
	}
	return xfrmInterface{}, nil
}

// parseCIDR reads an address with the length of its network.
func parseCIDR(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil // the default; a keyword is never written without a value
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, bad("%s is not an address with the length of its network, such as 192.0.2.1/24", quoted(s))
	}
	return p, nil
}

// kernelOf reads what is said about SAs and policies in the kernel.
func (b *build) kernelOf(c *policy.Connection) {
	k := &c.Children[0].Kernel
	k.Priority = uint32(value[uint64](b, "priority", noSide))
	k.MarkIn = value[policy.Mark](b, "mark", noSide)
	k.MarkOut = k.MarkIn
	if b.get("mark-in", noSide) != nil {
		k.MarkIn = value[policy.Mark](b, "mark-in", noSide)
	}
	if b.get("mark-out", noSide) != nil {
		k.MarkOut = value[policy.Mark](b, "mark-out", noSide)
	}
	i := value[xfrmInterface](b, "ipsec-interface", noSide)
	k.Interface, k.InterfaceID = i.name, i.id
	if b.get("ipsec-max-bytes", noSide) != nil {
		k.MaxBytes = value[uint64](b, "ipsec-max-bytes", noSide)
	}
	if b.get("ipsec-max-packets", noSide) != nil {
		k.MaxPackets = value[uint64](b, "ipsec-max-packets", noSide)
	}
	k.DecapDSCP, k.NoPMTUDisc = value[bool](b, "decap-dscp", noSide), value[bool](b, "nopmtudisc", noSide)
	k.NoEncapDSCP = !value[bool](b, "encap-dscp", noSide)
	for _, s := range []side{left, right} {
		end := &c.Left
		if s == right {
			end = &c.Right
		}
		e := b.get("interface-ip", s)
		if e == nil {
			continue
		}
		end.InterfaceIP = value[netip.Prefix](b, "interface-ip", s)
		if k.Interface == "" {
			b.warn(e, Warning, e.word+"= has no effect without ipsec-interface=", "")
		}
	}
}

package hostnet

import (
	"bytes"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/ts"
)

// addressFamily is one of the two parts of the inet table.
type addressFamily struct {
	bits         int
	proto        byte
	saddr, daddr uint32 // offsets in the IP header
	peers        string // the set of pairs of a peer and this host
	address      nftables.SetDatatype
}

var addressFamilies = []addressFamily{
	{32, unix.NFPROTO_IPV4, 12, 16, "peers4", nftables.TypeIPAddr},
	{128, unix.NFPROTO_IPV6, 8, 24, "peers6", nftables.TypeIP6Addr},
}

// linkTraffic matches what stays on one link and so never belongs into a tunnel: without neighbour discovery two hosts that protect their own addresses would
// lose each other.
func linkTraffic() [][]expr.Any {
	v4, v6 := addressFamilies[0], addressFamilies[1]
	header := func(base expr.PayloadBase, offset, length uint32, first, last []byte) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: first, ToData: last},
		}
	}
	const hopLimit, routerSolicitation, redirect = 7, 133, 137
	return [][]expr.Any{
		slices.Concat(v6.match(), matchProtocol(unix.IPPROTO_ICMPV6), header(expr.PayloadBaseTransportHeader, 0, 1, []byte{routerSolicitation}, []byte{redirect}),
			header(expr.PayloadBaseNetworkHeader, hopLimit, 1, []byte{255}, []byte{255})),
		slices.Concat(v6.match(), header(expr.PayloadBaseNetworkHeader, v6.saddr, 2, []byte{0xfe, 0x80}, []byte{0xfe, 0xbf})),
		slices.Concat(v6.match(), header(expr.PayloadBaseNetworkHeader, v6.daddr, 2, []byte{0xff, 0x02}, []byte{0xff, 0x02})),
		slices.Concat(v4.match(), header(expr.PayloadBaseNetworkHeader, v4.daddr, 3, []byte{224, 0, 0}, []byte{224, 0, 0})),
	}
}

// matchInbound matches packets from the remote selector to the local one.
func matchInbound(s selectors) []expr.Any {
	out := matchFlow(s.remote, s.local)
	if hasPorts(protocolOf(s)) {
		for offset, p := range []portRange{ports(s.remote), ports(s.local)} {
			if p != (portRange{}) {
				out = append(out, within(expr.PayloadBaseTransportHeader, uint32(2*offset), 2, binaryutil.BigEndian.PutUint16(p.first),
					binaryutil.BigEndian.PutUint16(p.last))...)
			}
		}
	}
	return append(out, verdict(expr.VerdictGoto, "clear")...)
}

// hidesPorts reports whether a policy asks for ports, which fragments do not show.
func hidesPorts(s selectors) bool {
	return hasPorts(protocolOf(s)) && (ports(s.local) != portRange{} || ports(s.remote) != portRange{})
}

// hidesProtocol reports whether a policy asks for a protocol, which IPv6 fragments may not show.
func hidesProtocol(s selectors) bool { return s.local.Start.Is6() && protocolOf(s) != 0 }

// extensions are the IPv6 headers that may stand between a fragment header and the protocol: then only the whole datagram shows it (RFC 8200 4.5).
var extensions = []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_AH, unix.IPPROTO_DSTOPTS, unix.IPPROTO_MH, protoHIP, protoShim6}

const protoHIP, protoShim6 = 139, 140

// matchHidden matches fragments from one selector of a policy to the other which do not show whether they are the policy's. Those for the tunnel come
// from the network behind us, and would be forwarded in clear: what is made here is fragmented behind the rules. What the system has put together before us
// (nf_defrag) is no fragment any more.
func (g *guard) matchHidden(from, to ts.Selector) error {
	both := selectors{from, to}
	addresses := func() []expr.Any { return matchAddresses(from, to) }
	if !from.Start.Is6() {
		if hidesPorts(both) {
			g.rule(g.specific, slices.Concat(addresses(), matchProtocol(protocolOf(both)), fragment4(0x3f), verdict(expr.VerdictGoto, g.clear.Name)))
		}
		return nil
	}
	hidden := slices.Clone(extensions)
	if hidesPorts(both) {
		hidden = append(hidden, protocolOf(both))
	}
	next := &nftables.Set{Table: g.table, Anonymous: true, Constant: true, KeyType: nftables.TypeInetProto}
	elements := make([]nftables.SetElement, len(hidden))
	for i, protocol := range hidden {
		elements[i].Key = []byte{protocol}
	}
	if err := g.conn.AddSet(next, elements); err != nil {
		return err
	}
	g.rule(g.specific, slices.Concat(addresses(), []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 0, Len: 1, Op: expr.ExthdrOpIpv6}, // found only where the header is
		&expr.Lookup{SourceRegister: 1, SetID: next.ID, SetName: next.Name},
	}, verdict(expr.VerdictGoto, g.clear.Name)))
	return nil
}

// fragment4 matches IPv4 fragments: 0x3f for all, 0x1f for those behind the first.
func fragment4(mask byte) []expr.Any {
	return append(addressFamilies[0].match(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{mask, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	)
}

// later6 matches IPv6 fragments behind the first.
func later6() []expr.Any {
	return append(addressFamilies[1].match(),
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	)
}

// matchProtocol matches the protocol, also that of a later fragment where that shows it.
func matchProtocol(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}}}
}

// matchLocal matches what is for this host.
func matchLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// matchFlow matches addresses and protocol of packets from one selector to another.
func matchFlow(from, to ts.Selector) []expr.Any {
	out := matchAddresses(from, to)
	if protocol := protocolOf(selectors{from, to}); protocol != 0 {
		out = append(out, matchProtocol(protocol)...)
	}
	return out
}

func matchAddresses(from, to ts.Selector) []expr.Any {
	f := addressFamilies[0]
	if from.Start.BitLen() == 128 {
		f = addressFamilies[1]
	}
	return slices.Concat(f.match(),
		within(expr.PayloadBaseNetworkHeader, f.saddr, uint32(f.bits/8), from.Start.AsSlice(), from.End.AsSlice()),
		within(expr.PayloadBaseNetworkHeader, f.daddr, uint32(f.bits/8), to.Start.AsSlice(), to.End.AsSlice()))
}

func protocolOf(s selectors) uint8 { return max(s.local.Protocol, s.remote.Protocol) }

// within matches octets of a header from first to last.
func within(base expr.PayloadBase, offset, length uint32, first, last []byte) []expr.Any {
	out := []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
	if bytes.Equal(first, last) {
		return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first})
	}
	return append(out, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: first, ToData: last})
}

func (f addressFamily) match() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.proto}}}
}

// pair loads source and destination side by side, as a set of pairs has them.
func (f addressFamily) pair() []expr.Any {
	words := uint32(f.bits / 32)
	return []expr.Any{
		&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: uint32(f.bits / 8)},
		&expr.Payload{DestRegister: firstRegister + words, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: uint32(f.bits / 8)},
	}
}

// firstRegister is the first of those that hold four octets each.
const firstRegister = unix.NFT_REG32_00

func ifname(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded(name)}}
}

// padded is an interface name as registers hold it.
func padded(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

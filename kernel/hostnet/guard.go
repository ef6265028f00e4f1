package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/ts"
)

// guard is our nft table. It drops packets that come from the network in clear although a policy protects them, and which would go around the
// tunnel otherwise. In words of nft:
//
//	chain prerouting { type filter hook prerouting priority raw;
//	    iifname { "lo", TUN } accept
//	    fib saddr oifname vmap {             # the way back, from destination to source, is
//	        TUN : goto clear,                # a tunnel
//	        "" : jump orphaned }             # no way at all, or a blackhole
//	    jump specific                        # policies for single protocols or ports; fragments of what they protect, which show no ports to the rules
//	}
//	chain orphaned {                         # after a kill the TUN is gone; if what carries our mark has a way, the blackhole is ours
//	    meta mark set MARK
//	    fib saddr . mark oif exists goto clear
//	    meta mark set 0
//	}
//	chain clear {
//	    socket mark MARK accept                              # what our own sockets wait for is IKE or sealed already
//	    meta l4proto esp fib daddr type local accept         # so is plain ESP, whose raw sockets are not found that way
//	    icmpv6 type 133-137 ip6 hoplimit 255 accept           # neighbours are found in clear (RFC 4861), protected or not; none is further away
//	    ip6 saddr fe80::/10 accept; ip6 daddr ff02::/16 accept; ip daddr 224.0.0.0/24 accept # nor is what these name
//	    meta l4proto udp ip frag-off & 0x1fff != 0 fib daddr type local accept # so are fragments of what our sockets wait for, whose first is judged above;
//	    meta l4proto udp frag frag-off & 0xfff8 != 0 fib daddr type local accept # those of ESP are already, and TCP makes none
//	    counter drop
//	}
//
// The question goes to the routes, so that ten thousand policies cost one lookup, and routes and guard cannot disagree.
type guard struct {
	conn  *nftables.Conn
	table *nftables.Table
	tun   string
	mark  uint32

	prerouting, specific, clear *nftables.Chain

	want map[selectors]int // what policies of single protocols or ports protect, with the number of policies
}

// selectors is one pair of a policy's selectors. Comparable.
type selectors struct{ local, remote ts.Selector }

// newGuard makes the table, after removing one of that name that was left behind.
func newGuard(set Settings, tun string) (*guard, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	g := &guard{conn: conn, tun: tun, mark: set.Mark, want: map[selectors]int{}}
	if err := g.make(set.NFTable); err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	return g, nil
}

func (g *guard) make(name string) error {
	g.table = g.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name}) // so that removing it cannot fail
	g.conn.DelTable(g.table)
	g.table = g.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	g.clear = g.conn.AddChain(&nftables.Chain{Name: "clear", Table: g.table})
	g.specific = g.conn.AddChain(&nftables.Chain{Name: "specific", Table: g.table})
	g.prerouting = g.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: g.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	for _, in := range []string{"lo", g.tun} {
		g.rule(g.prerouting, slices.Concat(ifname(expr.MetaKeyIIFNAME, in), verdict(expr.VerdictAccept, "")))
	}
	if err := g.askRoutes(); err != nil {
		return err
	}
	g.rule(g.prerouting, verdict(expr.VerdictJump, "specific"))
	g.rule(g.clear, slices.Concat([]expr.Any{
		&expr.Socket{Key: expr.SocketKeyMark, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(g.mark)},
	}, verdict(expr.VerdictAccept, "")))
	g.acceptLocal(
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ESP}},
	)
	for _, match := range linkTraffic() {
		g.rule(g.clear, slices.Concat(match, verdict(expr.VerdictAccept, "")))
	}
	g.acceptLocal(append(udpOf(addressFamilies[0]),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	)...)
	g.acceptLocal(append(udpOf(addressFamilies[1]),
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	)...)
	g.rule(g.clear, append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop, "")...))
	return g.conn.Flush()
}

// udpOf matches UDP, its fragments included.
func udpOf(f addressFamily) []expr.Any {
	return append(f.match(), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}})
}

// acceptLocal lets what matches in, if it is for this host.
func (g *guard) acceptLocal(match ...expr.Any) {
	g.rule(g.clear, slices.Concat(match, []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}, verdict(expr.VerdictAccept, "")))
}

// askRoutes asks for the way back with one lookup for each packet, and with a second for those that have none.
func (g *guard) askRoutes() error {
	orphaned := g.conn.AddChain(&nftables.Chain{Name: "orphaned", Table: g.table})
	ways := &nftables.Set{Table: g.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
	err := g.conn.AddSet(ways, []nftables.SetElement{
		{Key: padded(g.tun), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.clear.Name}},
		{Key: padded(""), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: orphaned.Name}},
	})
	if err != nil {
		return err
	}
	g.rule(g.prerouting, []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, ResultOIFNAME: true},
		&expr.Lookup{SourceRegister: 1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetID: ways.ID, SetName: ways.Name},
	})
	mark := func(v uint32) []expr.Any {
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(v)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
		}
	}
	g.rule(orphaned, mark(g.mark))
	g.rule(orphaned, slices.Concat([]expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagMARK: true, FlagPRESENT: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}, verdict(expr.VerdictGoto, g.clear.Name)))
	g.rule(orphaned, mark(0))
	return nil
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
		slices.Concat(v6.match(), []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
		}, header(expr.PayloadBaseTransportHeader, 0, 1, []byte{routerSolicitation}, []byte{redirect}),
			header(expr.PayloadBaseNetworkHeader, hopLimit, 1, []byte{255}, []byte{255})),
		slices.Concat(v6.match(), header(expr.PayloadBaseNetworkHeader, v6.saddr, 2, []byte{0xfe, 0x80}, []byte{0xfe, 0xbf})),
		slices.Concat(v6.match(), header(expr.PayloadBaseNetworkHeader, v6.daddr, 2, []byte{0xff, 0x02}, []byte{0xff, 0x02})),
		slices.Concat(v4.match(), header(expr.PayloadBaseNetworkHeader, v4.daddr, 3, []byte{224, 0, 0}, []byte{224, 0, 0})),
	}
}

func (g *guard) rule(c *nftables.Chain, exprs []expr.Any) {
	g.conn.AddRule(&nftables.Rule{Table: g.table, Chain: c, Exprs: exprs})
}

// addressFamily is one of the two parts of the inet table.
type addressFamily struct {
	bits         int
	proto        byte
	saddr, daddr uint32 // offsets in the IP header
}

var addressFamilies = []addressFamily{
	{32, unix.NFPROTO_IPV4, 12, 16},
	{128, unix.NFPROTO_IPV6, 8, 24},
}

// swap goes from what one policy wanted guarded to what its successor wants; either may be nil.
func (g *guard) swap(old, next *routed) error {
	changed := false
	if next != nil {
		for _, s := range next.guards {
			g.want[s]++
			changed = changed || g.want[s] == 1
		}
	}
	if old != nil {
		for _, s := range old.guards {
			g.want[s]--
			if g.want[s] == 0 {
				delete(g.want, s)
				changed = true
			}
		}
	}
	if !changed {
		return nil
	}
	return g.apply()
}

// apply writes the rules for single protocols and ports anew, in one transaction.
func (g *guard) apply() error {
	g.conn.FlushChain(g.specific)
	for s := range g.want {
		g.rule(g.specific, matchInbound(s))
		if hidesPorts(s) {
			g.rule(g.specific, matchHidden(s))
		}
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("nft table %s: %w", g.table.Name, err)
	}
	return nil
}

// dropped is the number of clear packets that the guard has dropped.
func (g *guard) dropped() (uint64, error) {
	rules, err := g.conn.GetRules(g.table, g.clear)
	if err != nil {
		return 0, err
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				return c.Packets, nil
			}
		}
	}
	return 0, nil
}

func (g *guard) close() error {
	g.conn.DelTable(g.table)
	err := g.conn.Flush()
	if err != nil {
		err = fmt.Errorf("remove nft table %s: %w", g.table.Name, err)
	}
	return errors.Join(err, g.conn.CloseLasting())
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

// hidesPorts reports whether the rules that lead packets to the tunnel ask for ports, so that fragments pass them by.
func hidesPorts(s selectors) bool {
	return hasPorts(protocolOf(s)) && (ports(s.local) != portRange{} || ports(s.remote) != portRange{})
}

// matchHidden matches fragments from the local selector to the remote one that come from the network: whatever their ports are they would be forwarded in clear.
// What is made here is fragmented behind the rules, and what the system has put together before us (nf_defrag) shows its ports.
func matchHidden(s selectors) []expr.Any {
	out := matchFlow(s.local, s.remote)
	if s.local.Start.Is4() {
		out = append(out,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: []byte{0, 0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
		)
	} else {
		out = append(out, // found only where the header is
			&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf9}, Xor: []byte{0, 0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
		)
	}
	return append(out, verdict(expr.VerdictGoto, "clear")...)
}

// matchFlow matches addresses and protocol of packets from one selector to another.
func matchFlow(from, to ts.Selector) []expr.Any {
	f := addressFamilies[0]
	if from.Start.BitLen() == 128 {
		f = addressFamilies[1]
	}
	out := slices.Concat(f.match(),
		within(expr.PayloadBaseNetworkHeader, f.saddr, uint32(f.bits/8), from.Start.AsSlice(), from.End.AsSlice()),
		within(expr.PayloadBaseNetworkHeader, f.daddr, uint32(f.bits/8), to.Start.AsSlice(), to.End.AsSlice()))
	if protocol := protocolOf(selectors{from, to}); protocol != 0 {
		out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}})
	}
	return out
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

package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// guard is our nft table. It drops packets that come from the network in clear although a policy protects them, and which would go around the
// tunnel otherwise. In words of nft:
//
//	chain prerouting { type filter hook prerouting priority raw;
//	    iifname { "lo", TUN } accept
//	    ip daddr @local4 fib saddr oifname TUN goto clear     # the way back to the source is a tunnel
//	    jump specific                                         # policies for single protocols or ports
//	}
//	chain clear { socket mark MARK accept; counter drop }     # what our own sockets wait for is IKE or sealed already
//
// The question about the source goes to the routes, so that ten thousand policies cost one lookup, and routes and guard cannot disagree.
type guard struct {
	conn  *nftables.Conn
	table *nftables.Table
	tun   string
	mark  uint32

	prerouting, specific, clear *nftables.Chain
	local                       map[int]*nftables.Set // by address family

	want map[selectors]int // what policies protect, with the number of policies
}

// selectors is one pair of a policy's selectors. Comparable.
type selectors struct{ local, remote ts.Selector }

func pairsOf(p kernel.Policy) (out []selectors) {
	for _, l := range p.Local {
		for _, r := range p.Remote {
			if l.Start.BitLen() == r.Start.BitLen() {
				out = append(out, selectors{l, r})
			}
		}
	}
	return out
}

// newGuard makes the table, after removing one of that name that was left behind.
func newGuard(set Settings, tun string) (*guard, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	g := &guard{conn: conn, tun: tun, mark: set.Mark, want: map[selectors]int{}, local: map[int]*nftables.Set{}}
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
	for _, f := range addressFamilies {
		g.local[f.bits] = &nftables.Set{Table: g.table, Name: f.set, KeyType: f.datatype, Interval: true}
		if err := g.conn.AddSet(g.local[f.bits], nil); err != nil {
			return err
		}
		g.rule(g.prerouting, slices.Concat(f.match(), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: uint32(f.bits / 8)},
			&expr.Lookup{SourceRegister: 1, SetName: f.set, SetID: g.local[f.bits].ID},
			&expr.Fib{Register: 1, FlagSADDR: true, ResultOIFNAME: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded(g.tun)},
		}, verdict(expr.VerdictGoto, "clear")))
	}
	g.rule(g.prerouting, verdict(expr.VerdictJump, "specific"))
	g.rule(g.clear, slices.Concat([]expr.Any{
		&expr.Socket{Key: expr.SocketKeyMark, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(g.mark)},
	}, verdict(expr.VerdictAccept, "")))
	g.rule(g.clear, append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop, "")...))
	return g.conn.Flush()
}

func (g *guard) rule(c *nftables.Chain, exprs []expr.Any) {
	g.conn.AddRule(&nftables.Rule{Table: g.table, Chain: c, Exprs: exprs})
}

// addressFamily is one of the two parts of the inet table.
type addressFamily struct {
	bits         int
	proto        byte
	saddr, daddr uint32 // offsets in the IP header
	set          string
	datatype     nftables.SetDatatype
}

var addressFamilies = []addressFamily{
	{32, unix.NFPROTO_IPV4, 12, 16, "local4", nftables.TypeIPAddr},
	{128, unix.NFPROTO_IPV6, 8, 24, "local6", nftables.TypeIP6Addr},
}

// swap goes from what one policy wanted guarded to what its successor wants; either may be nil.
func (g *guard) swap(old, next *routed) error {
	before := len(g.want)
	changed := false
	if next != nil {
		for _, s := range next.clear {
			g.want[s]++
			changed = changed || g.want[s] == 1
		}
	}
	if old != nil {
		for _, s := range old.clear {
			g.want[s]--
			if g.want[s] == 0 {
				delete(g.want, s)
				changed = true
			}
		}
	}
	if !changed && before == len(g.want) {
		return nil
	}
	return g.apply()
}

// apply writes sets and rules anew, in one transaction.
func (g *guard) apply() error {
	for _, f := range addressFamilies {
		var ranges []addrRange
		for s := range g.want {
			if s.local.Start.BitLen() == f.bits && !specific(s.local) && !specific(s.remote) {
				ranges = append(ranges, addrRange{s.local.Start, s.local.End})
			}
		}
		g.conn.FlushSet(g.local[f.bits])
		if elements := elementsOf(merge(ranges)); len(elements) > 0 {
			if err := g.conn.SetAddElements(g.local[f.bits], elements); err != nil {
				return fmt.Errorf("nft set %s: %w", f.set, err)
			}
		}
	}
	g.conn.FlushChain(g.specific)
	for s := range g.want {
		if specific(s.local) || specific(s.remote) {
			g.rule(g.specific, matchInbound(s))
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

type addrRange struct{ first, last netip.Addr }

// merge sorts ranges and joins those that overlap or touch, since an nft set takes none that overlap.
func merge(ranges []addrRange) (out []addrRange) {
	slices.SortFunc(ranges, func(a, b addrRange) int { return a.first.Compare(b.first) })
	for _, r := range ranges {
		if n := len(out) - 1; n >= 0 && (r.first.Compare(out[n].last) <= 0 || out[n].last.Next() == r.first) {
			if out[n].last.Less(r.last) {
				out[n].last = r.last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// elementsOf writes ranges as nft does: where one begins, and the first address after it unless there is none.
func elementsOf(ranges []addrRange) (out []nftables.SetElement) {
	for _, r := range ranges {
		out = append(out, nftables.SetElement{Key: r.first.AsSlice()})
		if after := r.last.Next(); after.IsValid() {
			out = append(out, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// matchInbound matches packets from the remote selector to the local one.
func matchInbound(s selectors) []expr.Any {
	f := addressFamilies[0]
	if s.local.Start.BitLen() == 128 {
		f = addressFamilies[1]
	}
	out := f.match()
	within := func(base expr.PayloadBase, offset, length uint32, first, last []byte) {
		out = append(out, &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length})
		if bytes.Equal(first, last) {
			out = append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first})
			return
		}
		out = append(out, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: first, ToData: last})
	}
	within(expr.PayloadBaseNetworkHeader, f.saddr, uint32(f.bits/8), s.remote.Start.AsSlice(), s.remote.End.AsSlice())
	within(expr.PayloadBaseNetworkHeader, f.daddr, uint32(f.bits/8), s.local.Start.AsSlice(), s.local.End.AsSlice())
	protocol := max(s.local.Protocol, s.remote.Protocol)
	if protocol != 0 {
		out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}})
	}
	if hasPorts(protocol) {
		for offset, p := range []portRange{ports(s.remote), ports(s.local)} {
			if p != (portRange{}) {
				within(expr.PayloadBaseTransportHeader, uint32(2*offset), 2, binaryutil.BigEndian.PutUint16(p.first), binaryutil.BigEndian.PutUint16(p.last))
			}
		}
	}
	return append(out, verdict(expr.VerdictGoto, "clear")...)
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

package hostnet

import (
	"errors"
	"fmt"
	"maps"
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
//	    fib saddr oifname vmap {             # the way back, from destination to source, is
//	        TUN : goto clear,                # a tunnel
//	        "" : jump orphaned }             # no way at all, or a blackhole
//	    jump specific                        # policies for single protocols or ports; fragments that do not show whether they are theirs
//	}
//	chain orphaned {                         # after a kill the TUN is gone; if what carries our mark has a way, the blackhole is ours
//	    meta mark set MARK
//	    fib saddr . mark oif exists goto clear
//	    meta mark set 0
//	}
//	chain clear {
//	    icmpv6 type 133-137 ip6 hoplimit 255 accept           # neighbours are found in clear (RFC 4861), protected or not; none is further away
//	    ip6 saddr fe80::/10 accept; ip6 daddr ff02::/16 accept; ip daddr 224.0.0.0/24 accept # nor is what these name
//	    ip frag-off & 0x1fff != 0 goto later; frag frag-off & 0xfff8 != 0 goto later # what looks like ports in them is none
//	    socket mark MARK fib daddr type local accept         # what our own sockets wait for is IKE or sealed already
//	    meta l4proto esp fib daddr type local accept         # so is plain ESP, whose raw sockets are not found that way
//	    goto refused
//	}
//	chain later {                                            # fragments behind the first, which alone has ports, and with IPv6 alone says the protocol
//	    meta nfproto ipv4 meta l4proto esp fib daddr type local accept
//	    meta l4proto udp ip saddr . ip daddr @peers4 accept   # sealed packets in UDP come from a peer to where it knows us; TCP makes no fragments
//	    meta l4proto { udp, esp } ip6 saddr . ip6 daddr @peers6 accept
//	    goto refused
//	}
//	chain refused { counter drop }
//
// What the chain later lets in is nothing without its first fragment, which was judged. It must not meet fragments that come out of the TUN: kernel/userspace lets none
// out between the hosts of @peers4 and @peers6.
//
// The question goes to the routes, so that ten thousand policies cost one lookup, and routes and guard cannot disagree.
type guard struct {
	conn  *nftables.Conn
	table *nftables.Table
	tun   string
	mark  uint32

	opened kernel.Mark // zero: the kernel's IPsec carries nothing here

	prerouting, orphaned, specific, clear, later, refused *nftables.Chain

	peers [2]*nftables.Set // as addressFamilies
	found bool             // rules and peers of an earlier daemon stand beside ours, until sweep

	want map[selectors]int // what policies of single protocols or ports protect, with the number of policies
	ways map[way]int       // the hosts between which sealed packets travel, likewise
}

// selectors is one pair of a policy's selectors. Comparable.
type selectors struct{ local, remote ts.Selector }

// way is a peer and the address at which it knows us.
type way struct{ peer, us netip.Addr }

// newGuard makes the table. In one that an earlier daemon has left, what is for single policies goes on until sweep; the rest is made anew, in the same moment.
func newGuard(set Settings, tun string) (*guard, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	g := &guard{conn: conn, tun: tun, mark: set.Mark, opened: set.Opened, want: map[selectors]int{}, ways: map[way]int{}}
	g.table = &nftables.Table{Family: nftables.TableFamilyINet, Name: set.NFTable}
	there, err := guardTable(conn, g.table.Name)
	if err == nil {
		g.found = there != nil
		err = g.make()
	}
	if err != nil && g.found { // it is not as we make it
		g.conn.DelTable(g.table)
		g.found = false
		err = g.make()
	}
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	return g, nil
}

// make makes all that does not depend on policies, in one transaction.
func (g *guard) make() error {
	g.conn.AddTable(g.table)
	for _, c := range []struct {
		at   **nftables.Chain
		name string
	}{{&g.refused, "refused"}, {&g.later, "later"}, {&g.clear, "clear"}, {&g.orphaned, "orphaned"}, {&g.specific, "specific"}} {
		*c.at = g.conn.AddChain(&nftables.Chain{Name: c.name, Table: g.table})
	}
	g.prerouting = g.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: g.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	for _, c := range []*nftables.Chain{g.prerouting, g.orphaned, g.clear, g.later, g.refused} {
		g.conn.FlushChain(c)
	}
	for i, f := range addressFamilies {
		g.peers[i] = &nftables.Set{Table: g.table, Name: f.peers, Concatenation: true, KeyType: nftables.MustConcatSetType(f.address, f.address)}
		if err := g.conn.AddSet(g.peers[i], nil); err != nil {
			return err
		}
	}
	if g.opened.Mask != 0 {
		g.besideKernel()
	} else if g.found {
		g.withoutKernel()
	}
	for _, in := range []string{"lo", g.tun} {
		g.rule(g.prerouting, slices.Concat(ifname(expr.MetaKeyIIFNAME, in), verdict(expr.VerdictAccept, "")))
	}
	if err := g.askRoutes(); err != nil {
		return err
	}
	g.rule(g.prerouting, verdict(expr.VerdictJump, g.specific.Name))
	g.judge()
	return g.conn.Flush()
}

// judge says which of the packets that a policy protects are let in all the same.
func (g *guard) judge() {
	accept, refuse := verdict(expr.VerdictAccept, ""), verdict(expr.VerdictGoto, g.refused.Name)
	esp := slices.Concat(matchProtocol(unix.IPPROTO_ESP), matchLocal(), accept)
	for _, match := range linkTraffic() {
		g.rule(g.clear, slices.Concat(match, accept))
	}
	for _, match := range [][]expr.Any{fragment4(0x1f), later6()} {
		g.rule(g.clear, slices.Concat(match, verdict(expr.VerdictGoto, g.later.Name)))
	}
	g.rule(g.clear, slices.Concat([]expr.Any{
		&expr.Socket{Key: expr.SocketKeyMark, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(g.mark)},
	}, matchLocal(), accept))
	g.rule(g.clear, esp)
	g.rule(g.clear, refuse)
	v4, v6 := 0, 1
	g.rule(g.later, slices.Concat(addressFamilies[v4].match(), esp))
	for _, l := range []struct {
		family   int
		protocol byte
	}{{v4, unix.IPPROTO_UDP}, {v6, unix.IPPROTO_UDP}, {v6, unix.IPPROTO_ESP}} {
		f, set := addressFamilies[l.family], g.peers[l.family]
		g.rule(g.later, slices.Concat(f.match(), matchProtocol(l.protocol), f.pair(), []expr.Any{
			&expr.Lookup{SourceRegister: firstRegister, SetID: set.ID, SetName: set.Name},
		}, accept))
	}
	g.rule(g.later, refuse)
	g.rule(g.refused, append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop, "")...))
}

// askRoutes asks for the way back with one lookup for each packet, and with a second for those that have none.
func (g *guard) askRoutes() error {
	ways := &nftables.Set{Table: g.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
	err := g.conn.AddSet(ways, []nftables.SetElement{
		{Key: padded(g.tun), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.clear.Name}},
		{Key: padded(""), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: g.orphaned.Name}},
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
	g.rule(g.orphaned, mark(g.mark))
	g.rule(g.orphaned, slices.Concat([]expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagMARK: true, FlagPRESENT: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}, verdict(expr.VerdictGoto, g.clear.Name)))
	g.rule(g.orphaned, mark(0))
	return nil
}

func (g *guard) rule(c *nftables.Chain, exprs []expr.Any) {
	g.conn.AddRule(&nftables.Rule{Table: g.table, Chain: c, Exprs: exprs})
}

// swap goes from what one policy wanted guarded to what its successor wants; either may be nil.
func (g *guard) swap(old, next *routed) error {
	var came, went []way
	var fresh []selectors
	changed := false
	if next != nil {
		for _, s := range next.guards {
			if g.want[s]++; g.want[s] == 1 {
				fresh = append(fresh, s)
			}
		}
		if w := next.way(); w != (way{}) {
			if g.ways[w]++; g.ways[w] == 1 {
				came = append(came, w)
			}
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
		if w := old.way(); w != (way{}) {
			if g.ways[w]--; g.ways[w] == 0 {
				delete(g.ways, w)
				went = append(went, w)
			}
		}
	}
	if !changed && len(fresh)+len(came)+len(went) == 0 {
		return nil
	}
	switch {
	case g.found:
		for _, s := range fresh {
			if err := g.addSpecific(s); err != nil {
				return err
			}
		}
	case changed || len(fresh) > 0:
		if err := g.writeSpecific(); err != nil {
			return err
		}
	}
	for i, set := range g.peers {
		if err := errors.Join(g.conn.SetAddElements(set, elements(i, came)), g.conn.SetDeleteElements(set, elements(i, went))); err != nil {
			return err
		}
	}
	return g.flush()
}

// way is where the sealed packets of a policy come from and go to; zero: not known.
func (r *routed) way() way {
	if w := (way{r.policy.RemoteAddr, r.policy.LocalAddr}); w.peer.IsValid() && w.us.IsValid() && w.peer.BitLen() == w.us.BitLen() {
		return w
	}
	return way{}
}

// elements are the ways of one address family as the set has them.
func elements(family int, ways []way) (out []nftables.SetElement) {
	for _, w := range ways {
		if w.us.BitLen() == addressFamilies[family].bits {
			out = append(out, nftables.SetElement{Key: append(w.peer.AsSlice(), w.us.AsSlice()...)})
		}
	}
	return out
}

// writeSpecific writes the rules for single protocols and ports anew.
func (g *guard) writeSpecific() error {
	g.conn.FlushChain(g.specific)
	for s := range g.want {
		if err := g.addSpecific(s); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) addSpecific(s selectors) error {
	g.rule(g.specific, matchInbound(s))
	if !hidesPorts(s) && !hidesProtocol(s) {
		return nil
	}
	return errors.Join(g.matchHidden(s.local, s.remote), g.matchHidden(s.remote, s.local))
}

// sweep takes away what an earlier daemon has left.
func (g *guard) sweep() error {
	if !g.found {
		return nil
	}
	for i, set := range g.peers {
		g.conn.FlushSet(set)
		if err := g.conn.SetAddElements(set, elements(i, slices.Collect(maps.Keys(g.ways)))); err != nil {
			return err
		}
	}
	if err := g.writeSpecific(); err != nil {
		return err
	}
	if err := g.flush(); err != nil {
		return err
	}
	g.found = false
	return nil
}

func (g *guard) flush() error {
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("nft table %s: %w", g.table.Name, err)
	}
	return nil
}

// dropped is the number of clear packets that the guard has dropped.
func (g *guard) dropped() (uint64, error) {
	rules, err := g.conn.GetRules(g.table, g.refused)
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

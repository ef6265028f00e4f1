package hostnet

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// metaSecpath is NFT_META_SECPATH: whether the kernel's IPsec has decrypted the packet.
const metaSecpath expr.MetaKey = 25

// besideKernel is for a host on which the kernel's IPsec carries ESP too. In words of nft, at the head of the table:
//
//	chain prerouting { meta ipsec exists accept; iifname TUN meta mark set meta mark | BIT }
//	chain forward { type filter hook forward priority raw; iifname TUN meta mark set meta mark & ~BIT }
//
// What the kernel has decrypted is not clear traffic; its policies have the last word: they want the SA that belongs to the packet's selectors, and let nothing pass from a
// tunnel for which there is no policy. What comes from the TUN has been decrypted too, but the kernel does not know: a policy lets packets with the bit pass. Behind
// that policy nobody is to see the bit, as far as there is a place to take it away.
func (g *guard) besideKernel() {
	g.rule(g.prerouting, slices.Concat([]expr.Any{
		&expr.Meta{Key: metaSecpath, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}, verdict(expr.VerdictAccept, "")))
	bit, others := g.opened.Value&g.opened.Mask, ^g.opened.Mask
	g.rule(g.prerouting, slices.Concat(ifname(expr.MetaKeyIIFNAME, g.tun), setMark(others, bit)))
	forward := g.conn.AddChain(&nftables.Chain{
		Name: forwardChain, Table: g.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRaw,
	})
	g.conn.FlushChain(forward)
	g.rule(forward, slices.Concat(ifname(expr.MetaKeyIIFNAME, g.tun), setMark(others, 0)))
}

const forwardChain = "forward"

// withoutKernel takes away what an earlier daemon has left that had the kernel's IPsec beside it.
func (g *guard) withoutKernel() {
	if c, err := g.conn.ListChain(g.table, forwardChain); err == nil && c != nil {
		g.conn.FlushChain(c)
		g.conn.DelChain(c)
	}
}

// setMark keeps some bits of the mark and sets others.
func setMark(keep, set uint32) []expr.Any {
	number := binaryutil.NativeEndian.PutUint32
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: number(keep), Xor: number(set)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

package probe

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

// metaSecpath is NFT_META_SECPATH: whether the kernel's IPsec has decrypted the packet.
const metaSecpath expr.MetaKey = 25

// tryNFT makes a table with the expressions that the guard of kernel/hostnet needs. In a namespace that is not ours its chain has no hook, so that it sees no packet.
func (t *trial) tryNFT() {
	conn, err := nftables.New(nftables.WithNetNSFd(t.ns), nftables.AsLasting())
	if err != nil {
		t.tell(NFT, err)
		t.skip("there is no nft", NFTGuard, NFTSecpath)
		return
	}
	defer func() { _ = conn.CloseLasting() }() // nothing is left to lose
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "ikegod-probe"})
	chain := &nftables.Chain{Name: "probe", Table: table}
	if t.own {
		chain.Type, chain.Hooknum, chain.Priority = nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw
	}
	chain = conn.AddChain(chain)
	if !t.tell(NFT, plain(conn.Flush())) {
		t.skip("there is no nft", NFTGuard, NFTSecpath)
		return
	}
	rule := func(exprs ...expr.Any) error {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		return plain(conn.Flush())
	}
	t.tell(NFTGuard, errors.Join(rule(&expr.Fib{Register: 1, FlagSADDR: true, ResultOIFNAME: true}), rule(&expr.Socket{Key: expr.SocketKeyMark, Register: 1})))
	t.tell(NFTSecpath, rule(&expr.Meta{Key: metaSecpath, Register: 1}))
	conn.DelTable(table)
	_ = conn.Flush() // the namespace goes, or the table has no hook
}

// plain is the kernel's error with its own text, without that of the library.
func plain(err error) error {
	op, ok := errors.AsType[*netlink.OpError](err)
	switch {
	case !ok:
		return err
	case op.Message != "":
		return fmt.Errorf("%w: %s", op.Err, op.Message)
	}
	return op.Err
}

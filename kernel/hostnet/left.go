package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// SweepLeft takes away what an earlier daemon with this run directory has left, for a daemon that does without a TUN. Call it once that one's policies are in place. It returns
// what there was, in an operator's words; empty: nothing.
func SweepLeft(runDir string) (string, error) {
	all, err := readRecord(runDir)
	if err != nil || len(all) == 0 {
		return "", err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	texts, still, err := sweepUsed(h, all, nil)
	return strings.Join(texts, "; "), errors.Join(err, writeRecord(runDir, still))
}

// sweepUsed takes away what there is under the numbers of earlier daemons, but for those that are this one's. It returns what there was, and the numbers of which
// something may be left.
func sweepUsed(h *netlink.Handle, all []used, own *Settings) (texts []string, still []used, err error) {
	var errs []error
	for _, u := range all {
		text, err := sweepOne(h, u, own)
		if err != nil {
			still = append(still, u)
			errs = append(errs, err)
		}
		if text != "" {
			texts = append(texts, text)
		}
	}
	return texts, still, errors.Join(errs...)
}

func sweepOne(h *netlink.Handle, u used, own *Settings) (string, error) {
	n := &Net{
		set: Settings{Mark: u.Mark, Table: u.Table, Preference: u.Preference, NFTable: u.NFTable}, beside: own, handle: h,
		policies: map[kernel.PolicyID]*routed{}, passing: map[kernel.PolicyID]bool{}, locals: map[netip.Prefix]int{}, leftTables: map[int]bool{}, leftRules: map[ruleID]leftTable{},
	}
	n.set.fill()
	if err := errors.Join(n.set.check(), n.adopt()); err != nil { // also if a TUN of somebody else has routes there
		return "", err
	}
	conn, err := nftables.New()
	var table *nftables.Table
	if err == nil && (own == nil || own.NFTable != n.set.NFTable) {
		table, err = guardTable(conn, n.set.NFTable)
	}
	if err != nil {
		table = nil // there is no nft here
	}
	if table != nil {
		if tun, err := n.guards(conn, table); err != nil || tun != "" {
			return "", errors.Join(err, fmt.Errorf("nft table %s guards interface %s, which is in use: it is somebody else's, and what an earlier daemon has left cannot be told from it", table.Name, tun))
		}
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			return "", fmt.Errorf("remove nft table %s: %w", table.Name, err)
		}
	}
	if err := n.clear(); err != nil || table == nil && !n.found {
		return "", err
	}
	return fmt.Sprintf("removed what an earlier daemon had left of routing rules from %d on, routing tables from %d on, and nft table %s", n.set.Preference, n.set.Table, n.set.NFTable), nil
}

// guardTable finds our nft table; nil: there is none.
func guardTable(conn *nftables.Conn, name string) (*nftables.Table, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == name }); i >= 0 {
		return tables[i], nil
	}
	return nil, nil
}

// guards is the TUN that a table guards, if it is there: with a killed daemon it goes.
func (n *Net) guards(conn *nftables.Conn, table *nftables.Table) (string, error) {
	rules, err := conn.GetRules(table, &nftables.Chain{Name: "prerouting", Table: table})
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("nft table %s: %w", table.Name, err)
	}
	for _, r := range rules {
		for i, e := range r.Exprs[:max(len(r.Exprs)-1, 0)] {
			m, isMeta := e.(*expr.Meta)
			c, isCmp := r.Exprs[i+1].(*expr.Cmp)
			if !isMeta || !isCmp || m.Key != expr.MetaKeyIIFNAME {
				continue
			}
			name := string(bytes.TrimRight(c.Data, "\x00"))
			if _, err := n.handle.LinkByName(name); err == nil && name != "lo" {
				return name, nil
			}
		}
	}
	return "", nil
}

// besideRule and besideTable report whether a preference or a table is of the daemon that sweeps what an earlier one has left under other numbers.
func (n *Net) besideRule(preference int) bool {
	return n.beside != nil && preference >= n.beside.Preference && preference <= n.beside.Preference+prefLast
}

func (n *Net) besideTable(table int) bool {
	return n.beside != nil && table >= n.beside.Table && table < n.beside.Table+numTables
}

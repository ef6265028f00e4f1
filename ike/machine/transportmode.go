package machine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Transport mode is between two hosts (RFC 7296 1.3.1, 2.23.1). USE_TRANSPORT_MODE beside the SA payload asks for it, and the same in the response agrees. The
// selectors hold one address each; where a NAT is between, either end knows itself and the other by addresses that the other end does not, so that what is
// received is first made into what this host sees. What was received is kept: it says with which addresses the peer computes checksums.

// mode is a Child SA in transport mode; the zero value is tunnel mode.
type mode struct {
	transport                     bool
	originalLocal, originalRemote netip.Addr // as the peer sees the two hosts
}

// wantsTransport reports whether a child is to be in transport mode.
func (t target) wantsTransport() bool { return t.conn.Children[t.index].Transport }

// String is the value of type=.
func (md mode) String() string {
	if md.transport {
		return "transport"
	}
	return "tunnel"
}

// transportFirst puts the children that are to be in transport mode before the others: who asks for it is looked for among them first (RFC 7296 2.23.1).
func transportFirst(list []target) []target {
	out := slices.DeleteFunc(slices.Clone(list), func(t target) bool { return !t.wantsTransport() })
	return append(out, slices.DeleteFunc(slices.Clone(list), target.wantsTransport)...)
}

// asksTransport reports whether a message has USE_TRANSPORT_MODE.
func asksTransport(items []wire.Item) bool {
	_, ok := wire.GetNotify(items, iana.USE_TRANSPORT_MODE)
	return ok
}

// substitute makes the selectors that were received into those that this host sees: the address of an end that is behind a NAT is replaced by that of
// the IKE SA (RFC 7296 2.23.1). It also returns the addresses that were there.
func (m *Machine) substitute(ours, theirs ts.Set) (local, remote ts.Set, md mode) {
	md.transport = true
	if len(ours) > 0 {
		md.originalLocal = ours[0].Start
	}
	if len(theirs) > 0 {
		md.originalRemote = theirs[0].Start
	}
	local, remote = ours, theirs
	if m.natLocal {
		local = readdress(ours, m.path.Local.Addr())
	}
	if m.natRemote {
		remote = readdress(theirs, m.path.Remote.Addr())
	}
	return local, remote, md
}

// readdress replaces single addresses of a's family.
func readdress(set ts.Set, a netip.Addr) ts.Set {
	out := make(ts.Set, len(set))
	for i, s := range set {
		if s.Start == s.End && s.Start.BitLen() == a.BitLen() {
			s.Start, s.End = a, a
		}
		out[i] = s
	}
	return out
}

// onlyHost reports whether all selectors of a set are of one address.
func onlyHost(set ts.Set, a netip.Addr) bool {
	for _, s := range set {
		if s.Start != a || s.End != a {
			return false
		}
	}
	return len(set) > 0
}

// notHosts says why selectors cannot be those of transport mode; empty: they can.
func (m *Machine) notHosts(c *policy.Oriented, local, remote ts.Set) string {
	l, r := m.path.Local.Addr(), m.path.Remote.Addr()
	if onlyHost(local, l) && onlyHost(remote, r) {
		return ""
	}
	return fmt.Sprintf("transport mode (%s) is between the two hosts of the IKE SA, here %s and %s, and the selectors are %s", where(c, "type"), l, r, tunnel(local, remote))
}

// chooseMode finds the selectors and the mode in which a child of ours would answer a request. The refusal says that it cannot be in the mode that was asked for.
// Who asks for transport mode takes tunnel mode too, or deletes the child (RFC 7296 1.3.1); who does not ask for it gets none.
func (m *Machine) chooseMode(r request, t target) (ours, theirs ts.Set, md mode, refusal *childRefusal) {
	if !t.wantsTransport() {
		return r.ours, r.theirs, mode{}, nil
	}
	if !r.transport {
		return nil, nil, mode{}, &childRefusal{
			conn: t.conn, reason: event.ReasonNoProposal, notify: iana.NO_PROPOSAL_CHOSEN,
			text: fmt.Sprintf("%q is type=transport (%s), and the peer asks for tunnel mode: write the same type= here and at the peer", t.conn.Children[t.index].Name,
				where(t.conn, "type")),
		}
	}
	ours, theirs, md = m.substitute(r.ours, r.theirs)
	return ours, theirs, md, nil
}

// acceptMode takes the mode and the selectors that the answerer has chosen for a child of ours. fault is why it cannot be: empty, go on.
func (m *Machine) acceptMode(c *child, items []wire.Item, ours, theirs ts.Set) (local, remote ts.Set, fault string) {
	asked, agreed := target{c.conn, c.index}.wantsTransport(), asksTransport(items)
	switch {
	case asked && !agreed:
		return nil, nil, fmt.Sprintf("asked for transport mode (%s), and the peer has made it in tunnel mode: its connection is type=tunnel; write the same type= at both ends",
			where(c.conn, "type"))
	case !asked && agreed:
		return nil, nil, fmt.Sprintf("the peer has made it in transport mode, which was not asked for (%s)", where(c.conn, "type"))
	case !asked:
		return ours, theirs, ""
	}
	local, remote, c.mode = m.substitute(ours, theirs)
	return local, remote, m.notHosts(c.conn, local, remote)
}

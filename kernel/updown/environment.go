package updown

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

const (
	// searchPath is the PATH of scripts.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// maxValue is the length of a value that others have chosen, in octets.
	maxValue = 1024
	// maxPairs is how many pairs of prefixes a tunnel may have: the script is run for each.
	maxPairs = 64
)

// pair is one pair of prefixes of a tunnel.
type pair struct {
	local, remote     netip.Prefix
	localTS, remoteTS ts.Selector
	host              bool // local is the host itself
}

// pairsOf are the pairs of prefixes between which a tunnel protects traffic. A range becomes the prefixes that it is made of: none that is wider.
func pairsOf(t kernel.Tunnel) ([]pair, error) {
	var out []pair
	for _, l := range t.Local {
		for _, r := range t.Remote {
			for _, lp := range (ts.Set{l}).Prefixes() {
				for _, rp := range (ts.Set{r}).Prefixes() {
					if lp.Addr().Is4() != rp.Addr().Is4() {
						continue
					}
					if len(out) == maxPairs {
						return nil, fmt.Errorf("leftupdown= is not run for %s: it has more than %d pairs of prefixes; write ranges as prefixes", t.Policy, maxPairs)
					}
					out = append(out, pair{local: lp, remote: rp, localTS: l, remoteTS: r, host: lp.IsSingleIP() && lp.Addr() == t.LocalAddr})
				}
			}
		}
	}
	return out, nil
}

// environment is all that a script sees of us. Values that a peer has a say in hold no control character; none is a secret.
func (r *Runner) environment(t kernel.Tunnel, verb string, p pair, last kernel.LastPair) []string {
	e := variables{"PATH=" + searchPath}
	e.add("PLUTO_VERB", verb+suffix(p))
	e.add("PLUTO_CONNECTION", t.Connection)
	e.add("PLUTO_CONNECTION_TYPE", either(t.Transport, "transport", "tunnel"))
	e.links(t)
	r.hosts(&e, t)
	e.clients(p)
	saType := "none"
	if t.SPIIn != 0 {
		saType = "ESP"
	}
	e.add("PLUTO_SA_REQID", strconv.FormatUint(uint64(r.o.Reqid(t.Policy)), 10))
	e.add("PLUTO_SA_TYPE", saType)
	e.add("PLUTO_STACK", "xfrm")
	var added int64
	if !t.Added.IsZero() && t.SPIIn != 0 {
		added = t.Added.Unix()
	}
	e.add("PLUTO_ADDTIME", strconv.FormatInt(added, 10))
	e.add("PLUTO_CONN_POLICY", t.Words)
	e.add("PLUTO_CONN_KIND", either(t.Instance, "CK_INSTANCE", "CK_PERMANENT"))
	if t.SourceIP.IsValid() {
		e.add("PLUTO_MY_SOURCEIP", t.SourceIP.String())
	}
	if t.MTU != 0 {
		e.add("PLUTO_MTU", strconv.Itoa(t.MTU))
	}
	if t.SPIIn != 0 {
		e.add("PLUTO_INBYTES", strconv.FormatUint(last.InBytes, 10))
		e.add("PLUTO_OUTBYTES", strconv.FormatUint(last.OutBytes, 10))
	}
	e.add("SPI_IN", fmt.Sprintf("%#x", uint32(t.SPIIn)))
	e.add("SPI_OUT", fmt.Sprintf("%#x", uint32(t.SPIOut)))
	return append(e, without...)
}

// without are the variables that libreswan always sets, of what there is none here.
var without = []string{
	"PLUTO_PEER_CA=", "PLUTO_DNS_RESOLVER=file", "XAUTH_FAILED=0", "PLUTO_MOBIKE_EVENT=", "PLUTO_IS_PEER_CISCO=0", "PLUTO_PEER_DNS_INFO=",
	"PLUTO_PEER_DOMAIN_INFO=", "PLUTO_PEER_BANNER=", "PLUTO_CFG_SERVER=0", "PLUTO_CFG_CLIENT=0", "PLUTO_NM_CONFIGURED=0", "VTI_IFACE=", "VTI_ROUTING=no", "VTI_SHARED=no",
}

// variables are NAME=VALUE.
type variables []string

func (e *variables) add(name, value string) { *e = append(*e, name+"="+clean(value, maxValue)) }

// links tells of the XFRM interface and the marks, if there are any.
func (e *variables) links(t kernel.Tunnel) {
	if t.Interface.Name == "" {
		e.add("PLUTO_VIRT_INTERFACE", "NULL")
		e.add("PLUTO_XFRMI_ROUTE", "")
	} else {
		e.add("PLUTO_VIRT_INTERFACE", t.Interface.Name)
		e.add("PLUTO_XFRMI_ROUTE", "yes")
	}
	for _, a := range t.Interface.Addrs[:min(len(t.Interface.Addrs), 1)] {
		e.add("INTERFACE_IP", a.String())
	}
	for name, m := range map[string]kernel.Mark{"CONNMARK_IN": t.MarkIn, "CONNMARK_OUT": t.MarkOut} {
		if m.Value != 0 {
			e.add(name, fmt.Sprintf("%d/%#08x", m.Value, m.Mask))
		}
	}
}

// hosts tells of the two hosts and of the way between them.
func (r *Runner) hosts(e *variables, t kernel.Tunnel) {
	link, hop := "NULL", t.RemoteAddr
	if t.RemoteAddr.IsValid() {
		if name, gateway := r.o.Towards(t.RemoteAddr); name != "" {
			link = name
			if gateway.IsValid() {
				hop = gateway
			}
		}
	}
	e.add("PLUTO_INTERFACE", link)
	e.add("PLUTO_NEXT_HOP", address(hop))
	e.add("PLUTO_ME", address(t.LocalAddr))
	e.add("PLUTO_MY_ID", t.LocalID)
	e.add("PLUTO_PEER", address(t.RemoteAddr))
	e.add("PLUTO_PEER_ID", t.RemoteID)
	e.add("PLUTO_CONN_ADDRFAMILY", family(t.LocalAddr))
}

// clients tells of what is protected.
func (e *variables) clients(p pair) {
	e.add("PLUTO_CLIENT_FAMILY", family(p.local.Addr()))
	for _, c := range []struct {
		name   string
		prefix netip.Prefix
		s      ts.Selector
	}{{"PLUTO_MY_", p.local, p.localTS}, {"PLUTO_PEER_", p.remote, p.remoteTS}} {
		e.add(c.name+"CLIENT", c.prefix.String())
		e.add(c.name+"CLIENT_NET", c.prefix.Addr().String())
		e.add(c.name+"CLIENT_MASK", mask(c.prefix))
		e.add(c.name+"PORT", port(c.s))
		e.add(c.name+"PROTOCOL", strconv.Itoa(int(c.s.Protocol)))
	}
}

// suffix is what follows the verb: -host for the host itself, -client for what is behind it, and the family.
func suffix(p pair) string {
	return either(p.host, "-host", "-client") + either(p.local.Addr().Is4(), "", "-v6")
}

func either(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func family(a netip.Addr) string { return either(a.Is4() || !a.IsValid(), "ipv4", "ipv6") }

// mask is the mask of a prefix, as an address.
func mask(p netip.Prefix) string {
	b := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // 4 or 16 octets
	return a.String()
}

// port is the port of a selector, 0 for any, FROM:TO for a range.
func port(s ts.Selector) string {
	switch {
	case s.StartPort == s.EndPort:
		return strconv.Itoa(int(s.StartPort))
	case s.StartPort == 0 && s.EndPort == 0xffff || s.StartPort > s.EndPort:
		return "0"
	}
	return fmt.Sprintf("%d:%d", s.StartPort, s.EndPort)
}

// clean replaces what is not printable by a question mark, and cuts after limit octets.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), limit)])
	return s
}

package conf

import (
	"fmt"
	"strings"
	"testing"
)

// childrenOf compiles a connection with these lines and prints its children; the second result are the messages.
func childrenOf(t *testing.T, lines string) (children, messages string) {
	t.Helper()
	set, ds := compileText(strings.ReplaceAll(lines, "|", "\n"))
	var words []string
	for _, c := range set.Connections {
		for _, ch := range c.Children {
			words = append(words, fmt.Sprintf("%s %v===%v", ch.Name, ch.Left, ch.Right))
		}
	}
	for _, d := range ds {
		messages += d.String() + "\n"
	}
	return strings.Join(words, "; "), messages
}

const twoHosts = "conn a| left=192.1.2.45| right=192.1.2.23| authby=secret| auto=add|"

// TestSubnets: every pair of a left and a right element is a Child SA, named as libreswan names its connections.
func TestSubnets(t *testing.T) {
	for _, tc := range []struct {
		lines, want string
		says        []string
	}{
		{
			" leftsubnets=10.1.0.0/16,10.2.0.0/16| rightsubnets=\"10.3.0.0/16 10.4.0.0/16\"|",
			"a/1x1 10.1.0.0/16===10.3.0.0/16; a/1x2 10.1.0.0/16===10.4.0.0/16; a/2x1 10.2.0.0/16===10.3.0.0/16; a/2x2 10.2.0.0/16===10.4.0.0/16", nil,
		},
		{" leftsubnets=10.1.0.0/16| rightsubnet=10.3.0.0/16|", "a/1x0 10.1.0.0/16===10.3.0.0/16", nil},
		{" rightsubnets=10.3.0.0/16,10.4.0.0/16|", "a/0x1 ===10.3.0.0/16; a/0x2 ===10.4.0.0/16", nil},
		{
			" leftsubnet=10.1.0.0/16| leftsubnets=10.2.0.0/16| rightsubnets={10.3.0.0/16}|",
			"a/0x1 10.1.0.0/16===10.3.0.0/16; a/1x1 10.2.0.0/16===10.3.0.0/16", nil,
		},
		// Repetitions are joined, those of %default too.
		{
			" leftsubnets=10.1.0.0/16| leftsubnets=10.2.0.0/16| rightsubnet=10.3.0.0/16|conn %default| leftsubnets=10.9.0.0/16|",
			"a/1x0 10.9.0.0/16===10.3.0.0/16; a/2x0 10.1.0.0/16===10.3.0.0/16; a/3x0 10.2.0.0/16===10.3.0.0/16", nil,
		},
		{" also=more| leftsubnets=10.1.0.0/16| rightsubnet=10.3.0.0/16|conn more| leftsubnets=10.2.0.0/16|", "a/1x0 10.2.0.0/16===10.3.0.0/16; a/2x0 10.1.0.0/16===10.3.0.0/16", nil},
		{
			" leftsubnets=10.1.0.0/16,2001:db8:1::/48| rightsubnets=2001:db8:2::/48,10.2.0.0/16|",
			"a/1x2 10.1.0.0/16===10.2.0.0/16; a/2x1 2001:db8:1::/48===2001:db8:2::/48",
			[]string{"a/1x1", "IPv4", "IPv6", "note"},
		},
		{
			" leftsubnets=10.1.0.0/16,10.2.0.0/16| rightsubnets=10.2.0.0/16,10.3.0.0/16|",
			"a/1x1 10.1.0.0/16===10.2.0.0/16; a/1x2 10.1.0.0/16===10.3.0.0/16; a/2x2 10.2.0.0/16===10.3.0.0/16",
			[]string{"a/2x1", "10.2.0.0/16 is on both sides"},
		},
		{" leftsubnets=10.1.0.0/16| leftsubnets=10.1.0.0/16| rightsubnet=10.3.0.0/16|", "a/1x0 10.1.0.0/16===10.3.0.0/16", []string{"10.1.0.0/16 is in leftsubnets= twice"}},
		{
			" leftsubnets=10.1.0.0/16/tcp/80,10.2.0.0/16| rightsubnet=10.3.0.0/16| rightprotoport=udp/53|",
			"a/1x0 10.1.0.0/16/TCP/80===10.3.0.0/16/UDP/53; a/2x0 10.2.0.0/16===10.3.0.0/16/UDP/53", nil,
		},
		{" leftsubnets=10.1.0.0/16| leftprotoport=tcp/1000-2000| rightsubnet=10.3.0.0/16|", "a/1x0 10.1.0.0/16/TCP/1000-2000===10.3.0.0/16", nil},
		{" leftsubnets=10.1.0.0/33| rightsubnet=10.3.0.0/16|", "", []string{"leftsubnets", "33", "error"}},
		{" leftsubnets=10.1.0.0/16| rightsubnet=2001:db8::/32|", "", []string{"no traffic can match"}},
		{" leftsubnets=10.1.0.0/16| rightsubnets=10.1.0.0/16|", "", []string{"no pair of a left and a right subnet makes a Child SA"}},
	} {
		got, said := childrenOf(t, twoHosts+tc.lines)
		if got != tc.want {
			t.Errorf("%s\n got %s\nwant %s\n%s", tc.lines, got, tc.want, said)
		}
		for _, w := range tc.says {
			if !strings.Contains(said, w) {
				t.Errorf("%s: the messages do not say %q:\n%s", tc.lines, w, said)
			}
		}
		if len(tc.says) == 0 && said != "" {
			t.Errorf("%s: %s", tc.lines, said)
		}
	}
}

// TestSubnetsLikeTheOthers: all Child SAs of a connection have its esp=, pfs= and what else there is for each.
func TestSubnetsLikeTheOthers(t *testing.T) {
	lines := " leftsubnets=10.1.0.0/16,10.2.0.0/16| rightsubnet=10.3.0.0/16| esp=aes_gcm128| pfs=no| mtu=1300|"
	set, _ := compileText(strings.ReplaceAll(twoHosts+lines, "|", "\n"))
	for _, ch := range set.Connections[0].Children {
		if ch.PFS || ch.MTU != 1300 || ch.ReplayWindow == 0 || len(ch.ESP) != 1 || ch.ESP[0].Encr[0].KeyBits != 128 {
			t.Errorf("%+v", ch)
		}
	}
	if s := set.Connections[0].Left.Subnets.String(); s != "10.1.0.0/16,10.2.0.0/16" {
		t.Error(s)
	}
}

// TestSubnetsBound: a cross product does not grow without bound.
func TestSubnetsBound(t *testing.T) {
	var l, r []string
	for i := range 40 {
		l, r = append(l, fmt.Sprintf("10.1.%d.0/24", i)), append(r, fmt.Sprintf("10.2.%d.0/24", i))
	}
	got, said := childrenOf(t, twoHosts+" leftsubnets="+strings.Join(l, ",")+"| rightsubnets="+strings.Join(r, ",")+"|")
	if got != "" || !strings.Contains(said, "1600 Child SAs") {
		t.Errorf("%s\n%s", got, said)
	}
}

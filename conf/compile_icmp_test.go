package conf

import (
	"strings"
	"testing"
)

// What looks like an ICMP type is told from type and code (RFC 7296 3.13.1), with the number that was meant.
func TestTypeOfICMP(t *testing.T) {
	for more, want := range map[string][]string{
		"leftprotoport=icmp/8": {"icmp/8 is ICMP type 0 with code 8", "icmp/2048", "icmp/2048-2303"},
		"rightsubnet=2001:db8::/32/ipv6-icmp/128\n\tleftsubnet=2001:db9::/32": {"ipv6-icmp/128 is ICMPv6 type 0 with code 128", "ipv6-icmp/32768"},
	} {
		_, ds := one(t, "\t"+more+"\n")
		found := ds.AtLeast(Warning)
		for _, w := range want {
			if len(found) != 1 || !strings.Contains(found[0].Text+" "+found[0].Suggestion, w) {
				t.Errorf("%q: expected %q in %v", more, w, ds)
			}
		}
	}
}

// ICMP is of one IP version: where the other's is written nothing matches.
func TestVersionOfICMP(t *testing.T) {
	const v6 = "left=2001:db8::45\n\tright=2001:db8::23\n\t"
	for _, tc := range []struct {
		more, want string
		line       int
	}{
		{v6 + "leftprotoport=icmp\n\trightprotoport=icmp", "leftprotoport: ICMP is of IPv4, and left=2001:db8::45 is IPv6: no packet matches; write ipv6-icmp", 4},
		{"rightprotoport=ipv6-icmp", "rightprotoport: ICMPv6 is of IPv6, and right=192.1.2.23 is IPv4: no packet matches; write icmp", 2},
		{"leftsubnet=10.0.0.0/8/58", "leftsubnet: ICMPv6 is of IPv6, and 10.0.0.0/8 is IPv4", 2},
		{"leftsubnets=2001:db8::/32/icmp\n\trightsubnet=2001:db9::/32", "leftsubnets: ICMP is of IPv4, and 2001:db8::/32 is IPv6", 2},
		{"leftsubnet=10.0.0.0/8,2001:db8::/32\n\tleftprotoport=icmp", "leftprotoport: ICMP is of IPv4, and 2001:db8::/32 is IPv6: no packet matches; write the protocol behind each network, as in 2001:db8::/32/ipv6-icmp", 3},
		{v6 + "leftprotoport=icmpv6", "", 0},
		{"leftprotoport=icmp", "", 0},
		{"leftsubnet=10.0.0.0/8/icmp,2001:db8::/32/icmpv6", "", 0},
		{"hostaddrfamily=ipv6\n\tright=%any\n\tleft=%defaultroute\n\trightprotoport=icmp", "rightprotoport: ICMP is of IPv4, and right=%any6 is IPv6: no packet matches; write ipv6-icmp", 5},
	} {
		text := "conn a\n\t" + tc.more + "\n\tauthby=secret\n\tauto=add\n"
		if !strings.Contains(tc.more, "right=") {
			text += "\tleft=192.1.2.45\n\tright=192.1.2.23\n"
		}
		set, ds := compileText(text)
		if set == nil || len(set.Connections) != 1 {
			t.Errorf("%q is not loaded: %v", tc.more, ds)
		}
		found := find(ds, "no packet matches")
		if tc.want == "" {
			if len(ds.AtLeast(Warning)) > 0 {
				t.Errorf("%q: %v", tc.more, ds)
			}
		} else if len(found) == 0 || found[0].Severity != Warning || found[0].Line != tc.line || !strings.Contains(found[0].String(), tc.want) {
			t.Errorf("%q: expected %q at line %d among %v", tc.more, tc.want, tc.line, ds)
		}
	}
	if _, ds := one(t, "\tleftprotoport=icmp6\n"); len(find(ds, "did you mean icmpv6?")) != 1 {
		t.Errorf("icmp6: %v", ds)
	}
	if _, ds := one(t, "\tleftsubnet=10.0.0.0/8/tpc/80\n"); len(find(ds, "did you mean tcp?")) != 1 {
		t.Errorf("tpc: %v", ds)
	}
}

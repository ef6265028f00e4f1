package machine

import (
	"bytes"
	"crypto/sha1"
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func sha1Of(b []byte) []byte {
	s := sha1.Sum(b)
	return s[:]
}

func TestFloat(t *testing.T) {
	for _, tc := range []struct {
		kind                path.Kind
		local, remote, want string
	}{
		{path.UDP, "192.1.2.45:500", "192.1.2.23:500", "192.1.2.45:4500 192.1.2.23:4500"},
		{path.UDP, "192.1.2.45:4500", "192.1.2.23:4500", "192.1.2.45:4500 192.1.2.23:4500"},
		{path.UDP, "192.1.2.45:500", "192.1.2.23:4500", "192.1.2.45:500 192.1.2.23:4500"},
		{path.UDP, "192.1.2.45:1500", "192.1.2.23:500", "192.1.2.45:1500 192.1.2.23:4500"},
		{path.UDP, "192.1.2.45:500", "192.1.2.23:8500", "192.1.2.45:500 192.1.2.23:8500"},
		{path.TCP, "192.1.2.45:40000", "192.1.2.23:500", "192.1.2.45:40000 192.1.2.23:500"},
	} {
		p := floated(path.Path{Kind: tc.kind, Local: addrPort(tc.local), Remote: addrPort(tc.remote)})
		if got := p.Local.String() + " " + p.Remote.String(); got != tc.want {
			t.Errorf("%v %s %s: %s, expected %s", tc.kind, tc.local, tc.remote, got, tc.want)
		}
	}
}

// TestNATHash compares with the computation of RFC 7296 2.23 written out: SHA-1 of SPIs, address and port.
func TestNATHash(t *testing.T) {
	h := wire.Header{InitiatorSPI: 0x0102030405060708, ResponderSPI: 0}
	p := []byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 192, 1, 2, 45, 0x01, 0xf4}
	if got, want := natHash(h, addrPort("192.1.2.45:500")), sha1Of(p); !bytes.Equal(got, want) {
		t.Errorf("%x, expected %x", got, want)
	}
	if got, want := natHash(h, addrPort("[::ffff:192.1.2.45]:500")), sha1Of(p); !bytes.Equal(got, want) {
		t.Error("an IPv4 address inside IPv6 is hashed as IPv6")
	}
	p6 := append(append(append([]byte{}, p[:16]...), 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), 0x11, 0x94)
	if got, want := natHash(h, addrPort("[2001:db8::1]:4500")), sha1Of(p6); !bytes.Equal(got, want) {
		t.Errorf("IPv6: %x, expected %x", got, want)
	}
}

package path

import (
	"net/netip"
	"testing"
)

func TestWordsOfPaths(t *testing.T) {
	udp := Path{Local: netip.MustParseAddrPort("192.1.2.45:500"), Remote: netip.MustParseAddrPort("192.1.2.23:4500")}
	six := Path{Local: netip.MustParseAddrPort("[2001:db8::45]:500"), Remote: netip.MustParseAddrPort("[2001:db8::23]:500"), Kind: TCP, Generation: 7}
	for _, tc := range []struct {
		p                   Path
		text, peer, carries string
	}{
		{udp, "192.1.2.45:500 -> 192.1.2.23:4500 UDP", "192.1.2.23:UDP/4500", "ESPinUDP"},
		{six, "[2001:db8::45]:500 -> [2001:db8::23]:500 TCP", "[2001:db8::23]:TCP/500", "ESPinTCP"},
		{udp.PlainESP(), "192.1.2.45 -> 192.1.2.23 ESP", "192.1.2.23:ESP", "ESP"},
		{six.PlainESP(), "2001:db8::45 -> 2001:db8::23 ESP", "[2001:db8::23]:ESP", "ESP"},
	} {
		if tc.p.String() != tc.text || tc.p.Peer() != tc.peer || tc.p.Kind.Encapsulation() != tc.carries {
			t.Errorf("got %q, %q, %q", tc.p, tc.p.Peer(), tc.p.Kind.Encapsulation())
		}
	}
	if p := six.PlainESP(); p.Generation != 0 || p.Local.Port() != 0 || p.Kind.Stream() {
		t.Errorf("plain ESP has no ports and no generation: %+v", p)
	}
}

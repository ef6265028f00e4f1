package conf

import (
	"strings"
	"testing"
)

// What RFC 8247 advises against is told where it is written, and it works.
func TestWeakAlgorithms(t *testing.T) {
	const ends = "\tleft=192.1.2.45\n\tright=192.1.2.23\n\tauthby=secret\n\tauto=add\n"
	for _, tc := range []struct {
		written string
		want    []string
	}{
		{"", nil},
		{"\tike=aes256-sha2_256-modp2048\n\tesp=aes256-sha2_256\n", nil},
		{"\tike=aes256-sha2_256-modp2048+modp1024\n", []string{"ipsec.conf:2:2: warning: conn a: ike: MODP1024 is weak (RFC 8247)"}},
		{"\tesp=aes256-sha1\n", []string{"ipsec.conf:2:2: warning: conn a: esp: SHA-1 is weak"}},
		{"\tike=aes256-sha1;dh5,aes256-sha1;dh2\n\tphase2alg=aes_gcm256-modp1536\n", []string{"ike: MODP1024 and MODP1536 and SHA-1 are weak", "phase2alg: MODP1536 is weak"}},
	} {
		set, ds := compileText("conn a\n" + tc.written + ends + "conn b\n\talso=a\n")
		if set == nil || len(set.Connections) != 2 {
			t.Errorf("%q is not loaded: %v", tc.written, ds)
		}
		found := ds.AtLeast(Warning)
		if len(found) != len(tc.want) {
			t.Errorf("%q: %v", tc.written, ds)
			continue
		}
		for i, w := range tc.want {
			if !strings.Contains(found[i].String(), w) {
				t.Errorf("%q: expected %q, found %v", tc.written, w, found[i])
			}
		}
	}
	if _, ds := compileText("conn %default\n\tike=aes256-sha1\nconn a\n" + ends + "conn b\n\talso=a\n"); len(find(ds, "ipsec.conf:2:2: warning", "SHA-1 is weak")) != 1 || len(ds.AtLeast(Warning)) != 1 {
		t.Errorf("of %%default: %v", ds)
	}
}

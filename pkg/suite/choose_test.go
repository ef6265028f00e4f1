package suite

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

var espSPI = []byte{1, 2, 3, 4}

func mustIKE(t testing.TB, s string) Proposals {
	t.Helper()
	p, err := ParseIKE(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustESP(t testing.TB, s string) Proposals {
	t.Helper()
	p, err := ParseESP(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func key(bits uint16) []wire.Attribute {
	return []wire.Attribute{{Type: iana.AttrKeyLength, Short: true, Value: bits}}
}

func encr(id iana.Encr, attributes ...wire.Attribute) wire.Transform {
	return wire.Transform{Type: iana.TransformEncr, ID: uint16(id), Attributes: attributes}
}

func tr(t iana.TransformType, id uint16) wire.Transform { return wire.Transform{Type: t, ID: id} }

// offer makes an SA payload of proposals numbered from 1.
func offer(protocol iana.Protocol, proposals ...[]wire.Transform) wire.SA {
	var sa wire.SA
	for i, ts := range proposals {
		p := wire.Proposal{Number: uint8(i + 1), Protocol: protocol, Transforms: ts}
		if protocol == iana.ProtoESP {
			p.SPI = espSPI
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa
}

// TestOffer is the payload of the example in RFC 7296 3.3, with algorithms of ours.
func TestOffer(t *testing.T) {
	p := mustESP(t, "aes128+aes192+aes256-sha2_256+sha2_512,aes_gcm128+aes_gcm256")
	want := offer(iana.ProtoESP,
		[]wire.Transform{
			encr(iana.ENCR_AES_CBC, key(128)...), encr(iana.ENCR_AES_CBC, key(192)...), encr(iana.ENCR_AES_CBC, key(256)...),
			tr(iana.TransformInteg, 12), tr(iana.TransformInteg, 14), tr(iana.TransformSN, 1), tr(iana.TransformSN, 0),
		},
		[]wire.Transform{
			encr(iana.ENCR_AES_GCM_16, key(128)...), encr(iana.ENCR_AES_GCM_16, key(256)...), tr(iana.TransformSN, 1), tr(iana.TransformSN, 0),
		})
	if diff := cmp.Diff(want, p.Offer(iana.ProtoESP, espSPI, true)); diff != "" {
		t.Error(diff)
	}

	ike := mustIKE(t, "aes_gcm256+chacha20_poly1305-sha2_512-dh31+dh14")
	want = offer(iana.ProtoIKE, []wire.Transform{
		encr(iana.ENCR_AES_GCM_16, key(256)...), encr(iana.ENCR_CHACHA20_POLY1305), tr(iana.TransformPRF, 7), tr(iana.TransformKE, 31), tr(iana.TransformKE, 14),
	})
	if diff := cmp.Diff(want, ike.Offer(iana.ProtoIKE, nil, true)); diff != "" {
		t.Error(diff)
	}

	// A key exchange only when asked for, NONE beside another only.
	for _, tc := range []struct {
		esp    string
		withKE bool
		want   int // KE transforms
	}{{"aes_gcm256-dh19", true, 1}, {"aes_gcm256-dh19", false, 0}, {"aes_gcm256;ke=none+dh19", true, 2}, {"aes_gcm256;ke=none", true, 0}, {"aes_gcm256", true, 0}} {
		n := 0
		for _, x := range mustESP(t, tc.esp).Offer(iana.ProtoESP, espSPI, tc.withKE).Proposals[0].Transforms {
			if x.Type == iana.TransformKE {
				n++
			}
		}
		if n != tc.want {
			t.Errorf("%s with KE %v: %d KE transforms, expected %d", tc.esp, tc.withKE, n, tc.want)
		}
	}
	if many := slices.Repeat(ike, 300); len(many.Offer(iana.ProtoIKE, nil, true).Proposals) != 255 {
		t.Error("more proposals than can be numbered")
	}
}

func TestChoose(t *testing.T) {
	cbc, gcm := encr(iana.ENCR_AES_CBC, key(256)...), encr(iana.ENCR_AES_GCM_16, key(256)...)
	prf, sha := tr(iana.TransformPRF, 5), tr(iana.TransformInteg, 12)
	dh19, dh14 := tr(iana.TransformKE, 19), tr(iana.TransformKE, 14)
	esn, noESN := tr(iana.TransformSN, 1), tr(iana.TransformSN, 0)
	none := tr(iana.TransformInteg, 0)
	odd := func(t wire.Transform) wire.Transform {
		t.Attributes = append(slices.Clone(t.Attributes), wire.Attribute{Type: 99, Short: true})
		return t
	}
	ike, esp := iana.ProtoIKE, iana.ProtoESP
	for _, tc := range []struct {
		name     string
		protocol iana.Protocol
		policy   string
		offer    wire.SA
		noKE     bool
		prefer   iana.KE
		want     string // suite; empty: none
		number   uint8
		reply    []wire.Transform // checked when not nil
	}{
		{
			name: "plain", protocol: ike, offer: offer(ike, []wire.Transform{cbc, prf, sha, dh19}), number: 1,
			want:  "{cipher=AES_CBC_256 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 ke=DH19}",
			reply: []wire.Transform{cbc, prf, sha, dh19},
		},
		{
			name: "initiator's order of proposals", protocol: ike, number: 1,
			offer: offer(ike, []wire.Transform{cbc, prf, sha, dh14}, []wire.Transform{gcm, prf, dh19}),
			want:  "{cipher=AES_CBC_256 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{
			name: "our order inside", protocol: ike, policy: "aes_gcm256-sha2-dh14+dh19", number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, dh14}), want: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{
			name: "preferred KE", protocol: ike, policy: "aes_gcm256-sha2-dh14+dh19", prefer: iana.KE_ECP256, number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh14, dh19}), want: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
		},
		{
			name: "preferred KE in a later alternative", protocol: ike, policy: "aes_gcm256-sha2-dh14,aes_gcm256-sha2-dh19", prefer: iana.KE_ECP256, number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh14, dh19}), want: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
		},
		{
			name: "preferred KE not allowed", protocol: ike, policy: "aes_gcm256-sha2-dh14", prefer: iana.KE_ECP256, number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh14, dh19}), want: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{
			name: "preferred KE not offered", protocol: ike, prefer: iana.KE_ECP256, number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh14}), want: "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{
			name: "AEAD with NONE", protocol: ike, number: 1, offer: offer(ike, []wire.Transform{gcm, prf, none, dh19}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
			reply: []wire.Transform{gcm, prf, none, dh19},
		},
		{name: "AEAD with integrity", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf, sha, dh19})},
		{
			name: "AEAD and CBC mixed with integrity", protocol: ike, number: 1, offer: offer(ike, []wire.Transform{gcm, cbc, prf, sha, none, dh19}),
			want: "{cipher=AES_CBC_256 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 ke=DH19}",
		},
		{name: "CBC without integrity", protocol: ike, offer: offer(ike, []wire.Transform{cbc, prf, dh19})},
		{name: "CBC with NONE", protocol: ike, offer: offer(ike, []wire.Transform{cbc, prf, none, dh19})},
		{name: "AES without key length", protocol: ike, offer: offer(ike, []wire.Transform{encr(iana.ENCR_AES_GCM_16), prf, dh19})},
		{
			name: "key length in the long form", protocol: ike,
			offer: offer(ike, []wire.Transform{encr(iana.ENCR_AES_GCM_16, wire.Attribute{Type: iana.AttrKeyLength, Data: []byte{1, 0}}), prf, dh19}),
		},
		{name: "key length twice", protocol: ike, offer: offer(ike, []wire.Transform{encr(iana.ENCR_AES_GCM_16, append(key(256), key(256)...)...), prf, dh19})},
		{name: "key length of ChaCha20", protocol: ike, offer: offer(ike, []wire.Transform{encr(iana.ENCR_CHACHA20_POLY1305, key(256)...), prf, dh19})},
		{
			name: "ChaCha20", protocol: ike, number: 1, offer: offer(ike, []wire.Transform{encr(iana.ENCR_CHACHA20_POLY1305), prf, dh19}),
			want: "{cipher=CHACHA20_POLY1305 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
		},
		{
			name: "unknown attribute, another transform", protocol: ike, number: 1, offer: offer(ike, []wire.Transform{odd(gcm), gcm, odd(prf), prf, odd(dh14), dh19}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
			reply: []wire.Transform{gcm, prf, dh19},
		},
		{name: "unknown attribute", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf, odd(dh19)})},
		{name: "AEAD with an odd NONE", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf, odd(none), dh19})},
		{
			name: "unknown transform IDs", protocol: ike, number: 1,
			offer: offer(ike, []wire.Transform{encr(1024), gcm, tr(iana.TransformPRF, 1024), prf, tr(iana.TransformKE, 1024), dh19}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
		},
		{
			name: "unknown transform type, then a good one", protocol: ike, number: 2,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, tr(99, 1)}, []wire.Transform{gcm, prf, dh14}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{
			name: "additional key exchange", protocol: ike, number: 2,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, tr(iana.TransformAddKE1, 36)}, []wire.Transform{gcm, prf, dh19}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
		},
		{
			name: "additional key exchange, optional", protocol: ike, number: 1,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, tr(iana.TransformAddKE1, 36), tr(iana.TransformAddKE1, 0), tr(iana.TransformAddKE7, 0)}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_256 ke=DH19}",
			reply: []wire.Transform{gcm, prf, dh19, tr(iana.TransformAddKE1, 0), tr(iana.TransformAddKE7, 0)},
		},
		{
			name: "two additional key exchanges, one optional", protocol: ike,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, tr(iana.TransformAddKE1, 0), tr(iana.TransformAddKE2, 36)}),
		},
		{
			name: "additional key exchange, an odd NONE", protocol: ike,
			offer: offer(ike, []wire.Transform{gcm, prf, dh19, odd(tr(iana.TransformAddKE1, 0))}),
		},
		{
			name: "ESP, additional key exchange, optional", protocol: esp, policy: "aes_gcm256-dh19", number: 1,
			offer: offer(esp, []wire.Transform{gcm, dh19, esn, tr(iana.TransformAddKE3, 37), tr(iana.TransformAddKE3, 0)}),
			want:  "{cipher=AES_GCM_16_256 integ=n/a ke=DH19 esn=yes}", reply: []wire.Transform{gcm, dh19, esn, tr(iana.TransformAddKE3, 0)},
		},
		{
			name: "ESP in IKE_AUTH, additional key exchange", protocol: esp, noKE: true,
			offer: offer(esp, []wire.Transform{gcm, esn, tr(iana.TransformAddKE3, 37)}),
		},
		{
			name: "SHA-1 and MODP1024 not by default", protocol: ike,
			offer: offer(ike, []wire.Transform{cbc, tr(iana.TransformPRF, 2), tr(iana.TransformInteg, 2), tr(iana.TransformKE, 2)}),
		},
		{
			name: "SHA-1 and MODP1024 when written", protocol: ike, policy: "aes256-sha1-modp1024", number: 1,
			offer: offer(ike, []wire.Transform{cbc, tr(iana.TransformPRF, 2), tr(iana.TransformInteg, 2), tr(iana.TransformKE, 2)}),
			want:  "{cipher=AES_CBC_256 integ=HMAC_SHA1_96 prf=HMAC_SHA1 ke=MODP1024}",
		},
		{
			name: "CCM with integrity", protocol: esp, policy: "aes_ccm256", noKE: true,
			offer: offer(esp, []wire.Transform{encr(iana.ENCR_AES_CCM_16, key(256)...), sha, esn}),
		},
		{
			name: "CCM", protocol: esp, policy: "aes_ccm256", noKE: true, number: 1,
			offer: offer(esp, []wire.Transform{encr(iana.ENCR_AES_CCM_16, key(128)...), encr(iana.ENCR_AES_CCM_16, key(256)...), esn}),
			want:  "{cipher=AES_CCM_16_256 integ=n/a ke=none esn=yes}",
		},
		{name: "ESN in IKE", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf, dh19, noESN})},
		{name: "IKE without PRF", protocol: ike, offer: offer(ike, []wire.Transform{gcm, dh19})},
		{name: "IKE without KE", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf})},
		{name: "IKE with KE NONE", protocol: ike, offer: offer(ike, []wire.Transform{gcm, prf, tr(iana.TransformKE, 0)})},
		{name: "another protocol", protocol: ike, offer: offer(iana.ProtoESP, []wire.Transform{gcm, prf, dh19})},
		{name: "empty", protocol: ike, offer: wire.SA{}},
		{name: "no transforms", protocol: ike, offer: offer(ike, nil)},

		{
			name: "ESP", protocol: esp, number: 1, noKE: true, offer: offer(esp, []wire.Transform{gcm, noESN, esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes}", reply: []wire.Transform{gcm, esn},
		},
		{
			name: "ESP, no ESN of ours", protocol: esp, policy: "aes_gcm256;sn=no", number: 1, noKE: true, offer: offer(esp, []wire.Transform{gcm, esn, noESN}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=no}",
		},
		{name: "ESP, ESN demanded", protocol: esp, policy: "aes_gcm256;sn=esn", noKE: true, offer: offer(esp, []wire.Transform{gcm, noESN})},
		{
			name: "ESP without ESN transform", protocol: esp, number: 1, noKE: true, offer: offer(esp, []wire.Transform{gcm}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=no}", reply: []wire.Transform{gcm},
		},
		{name: "ESP without ESN transform, ESN demanded", protocol: esp, policy: "aes_gcm256;sn=esn", noKE: true, offer: offer(esp, []wire.Transform{gcm})},
		{name: "ESP, odd ESN transform is not an absent one", protocol: esp, noKE: true, offer: offer(esp, []wire.Transform{gcm, odd(noESN)})},
		{
			name: "ESP in IKE_AUTH with a key exchange", protocol: esp, number: 1, noKE: true, offer: offer(esp, []wire.Transform{gcm, dh19, esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes}", reply: []wire.Transform{gcm, esn},
		},
		{
			name: "ESP in IKE_AUTH with NONE", protocol: esp, number: 1, noKE: true, offer: offer(esp, []wire.Transform{gcm, tr(iana.TransformKE, 0), esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes}", reply: []wire.Transform{gcm, tr(iana.TransformKE, 0), esn},
		},
		{
			name: "ESP with PFS", protocol: esp, policy: "aes_gcm256-dh19", number: 1, offer: offer(esp, []wire.Transform{gcm, dh14, dh19, esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=DH19 esn=yes}", reply: []wire.Transform{gcm, dh19, esn},
		},
		{name: "ESP, PFS demanded", protocol: esp, policy: "aes_gcm256-dh19", offer: offer(esp, []wire.Transform{gcm, esn})},
		{
			name: "ESP, PFS optional for us", protocol: esp, policy: "aes_gcm256;dh19+none", number: 1, offer: offer(esp, []wire.Transform{gcm, esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes}",
		},
		{
			name: "ESP, PFS optional for both", protocol: esp, policy: "aes_gcm256;none+dh19", prefer: iana.KE_ECP256, number: 1,
			offer: offer(esp, []wire.Transform{gcm, tr(iana.TransformKE, 0), dh19, esn}), want: "{cipher=AES_GCM_16_256 integ=n/a ke=DH19 esn=yes}",
		},
		{name: "ESP, PFS not wanted but demanded", protocol: esp, policy: "aes_gcm256", offer: offer(esp, []wire.Transform{gcm, dh19, esn})},
		{
			name: "ESP, PFS not wanted and optional", protocol: esp, policy: "aes_gcm256", number: 1, offer: offer(esp, []wire.Transform{gcm, tr(iana.TransformKE, 0), dh19, esn}),
			want: "{cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes}", reply: []wire.Transform{gcm, tr(iana.TransformKE, 0), esn},
		},
		{name: "ESP with a PRF", protocol: esp, noKE: true, offer: offer(esp, []wire.Transform{gcm, prf, esn})},
		{
			name: "ESP with a wrong SPI", protocol: esp, noKE: true,
			offer: wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: esp, SPI: []byte{1}, Transforms: []wire.Transform{gcm, esn}}}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parse := mustESP
			if tc.protocol == ike {
				parse = mustIKE
			}
			p := parse(t, tc.policy)
			c, err := p.Choose(tc.offer, tc.protocol, !tc.noKE, tc.prefer)
			if tc.want == "" {
				var m *Mismatch
				if !errors.As(err, &m) || m.First == "" {
					t.Fatalf("chose %v, error %v", c.Suite, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Suite.String() != tc.want || c.Number != tc.number {
				t.Fatalf("chose %v of proposal %d, expected %s of %d", c.Suite, c.Number, tc.want, tc.number)
			}
			checkReply(t, tc.offer, c)
			if tc.reply != nil {
				if diff := cmp.Diff(tc.reply, c.Reply.Proposals[0].Transforms); diff != "" {
					t.Error("reply:", diff)
				}
			}
		})
	}
}

// checkReply checks what RFC 7296 3.3.6 asks of every answer: one proposal with the number of the chosen one, a transform for each type at most, each
// exactly as it was offered.
func checkReply(t *testing.T, offer wire.SA, c Choice) {
	t.Helper()
	if len(c.Reply.Proposals) != 1 || c.Reply.Proposals[0].Number != c.Number || len(c.Reply.Proposals[0].SPI) != 0 {
		t.Fatalf("reply %+v", c.Reply)
	}
	i := slices.IndexFunc(offer.Proposals, func(p wire.Proposal) bool { return p.Number == c.Number })
	if !slices.Equal(c.SPI, offer.Proposals[i].SPI) {
		t.Fatalf("SPI %x", c.SPI)
	}
	seen := map[iana.TransformType]bool{}
	for _, x := range c.Reply.Proposals[0].Transforms {
		if seen[x.Type] {
			t.Fatalf("type %d twice in the reply", x.Type)
		}
		seen[x.Type] = true
		if !slices.ContainsFunc(offer.Proposals[i].Transforms, func(y wire.Transform) bool { return cmp.Equal(x, y) }) {
			t.Fatalf("the reply has %s, which was not offered", transformName(x))
		}
	}
	for _, x := range offer.Proposals[i].Transforms { // RFC 9370 2.2.1: each additional key exchange that was offered is answered, here with NONE
		if isAddKE(x.Type) && !slices.ContainsFunc(c.Reply.Proposals[0].Transforms, func(y wire.Transform) bool { return y.Type == x.Type && y.ID == 0 }) {
			t.Fatalf("the reply leaves %s out", typeName(x.Type))
		}
	}
}

func TestAccept(t *testing.T) {
	p := mustIKE(t, "aes_gcm256+aes_gcm128-sha2_512+sha2-dh19+dh14,aes256-sha2-dh19")
	gcm, prf, dh := encr(iana.ENCR_AES_GCM_16, key(128)...), tr(iana.TransformPRF, 5), tr(iana.TransformKE, 14)
	reply := func(change func(*wire.SA)) wire.SA {
		sa := offer(iana.ProtoIKE, []wire.Transform{gcm, prf, dh})
		change(&sa)
		return sa
	}
	with := func(ts ...wire.Transform) func(*wire.SA) {
		return func(sa *wire.SA) { sa.Proposals[0].Transforms = ts }
	}
	for _, tc := range []struct {
		name  string
		reply wire.SA
		first string // empty: accepted
	}{
		{"good", reply(func(*wire.SA) {}), ""},
		{"NONE with an AEAD", reply(with(gcm, prf, tr(iana.TransformInteg, 0), dh)), ""},
		{"second proposal", reply(func(sa *wire.SA) {
			sa.Proposals[0].Number = 2
			sa.Proposals[0].Transforms = []wire.Transform{encr(iana.ENCR_AES_CBC, key(256)...), prf, tr(iana.TransformInteg, 12), tr(iana.TransformKE, 19)}
		}), ""},
		{"number of another proposal", reply(func(sa *wire.SA) { sa.Proposals[0].Number = 2 }), "encryption: offered AES_GCM_16_128, allowed AES_CBC_256"},
		{"number 0", reply(func(sa *wire.SA) { sa.Proposals[0].Number = 0 }), "number that was not offered"},
		{"number 3", reply(func(sa *wire.SA) { sa.Proposals[0].Number = 3 }), "number that was not offered"},
		{"nothing", wire.SA{}, "exactly one proposal"},
		{"two", offer(iana.ProtoIKE, []wire.Transform{gcm, prf, dh}, []wire.Transform{gcm, prf, dh}), "exactly one proposal"},
		{"two PRFs", reply(with(gcm, prf, tr(iana.TransformPRF, 7), dh)), "several transforms for PRF"},
		{"no PRF", reply(with(gcm, dh)), "PRF: offered none"},
		{"no KE", reply(with(gcm, prf)), "key exchange: offered none"},
		{"KE not offered", reply(with(gcm, prf, tr(iana.TransformKE, 2))), "key exchange: offered MODP1024, allowed DH19 or MODP2048"},
		{"key length not offered", reply(with(encr(iana.ENCR_AES_GCM_16, key(192)...), prf, dh)), "encryption: offered AES_GCM_16_192, allowed AES_GCM_16_256 or AES_GCM_16_128"},
		{"integrity with an AEAD", reply(with(gcm, prf, tr(iana.TransformInteg, 12), dh)), "integrity: offered HMAC_SHA2_256_128, allowed none"},
		{"type not offered", reply(with(gcm, prf, dh, tr(iana.TransformAddKE1, 36))), "the answer has additional key exchange 1, but none was offered"},
		{"NONE not offered", reply(with(gcm, prf, dh, tr(iana.TransformAddKE2, 0))), "the answer has additional key exchange 2, but none was offered"},
		{"attribute changed", reply(with(gcm, wire.Transform{Type: iana.TransformPRF, ID: 5, Attributes: key(1)}, dh)), "PRF: offered"},
		{"another protocol", reply(func(sa *wire.SA) { sa.Proposals[0].Protocol = iana.ProtoESP }), "protocol: offered ESP, expected IKE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := p.Accept(tc.reply, iana.ProtoIKE, true)
			if tc.first == "" {
				if err != nil {
					t.Fatal(err)
				}
				if c.Number != tc.reply.Proposals[0].Number {
					t.Fatalf("proposal %d", c.Number)
				}
				return
			}
			var m *Mismatch
			if !errors.As(err, &m) {
				t.Fatalf("accepted %v, error %v", c.Suite, err)
			}
			if !strings.Contains(m.First, tc.first) {
				t.Errorf("first difference %q, expected %q", m.First, tc.first)
			}
			if !strings.HasPrefix(err.Error(), "the peer chose a proposal that was not offered: ") {
				t.Errorf("message %q", err)
			}
		})
	}

	esp := mustESP(t, "aes_gcm256-dh19")
	answer := offer(iana.ProtoESP, []wire.Transform{encr(iana.ENCR_AES_GCM_16, key(256)...), tr(iana.TransformKE, 19), tr(iana.TransformSN, 1)})
	if c, err := esp.Accept(answer, iana.ProtoESP, true); err != nil || c.Suite.KE != iana.KE_ECP256 {
		t.Errorf("with PFS: %v, error %v", c.Suite, err)
	}
	if _, err := esp.Accept(answer, iana.ProtoESP, false); err == nil || !strings.Contains(err.Error(), "none was offered") {
		t.Errorf("a key exchange in IKE_AUTH: error %v", err)
	}
}

// TestMismatch reads the messages as an operator does.
func TestMismatch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Proposals
		offer  wire.SA
		esp    bool
		want   string
	}{
		{
			"KE", mustIKE(t, "aes_gcm256-sha2_512-dh19+dh31"), offer(iana.ProtoIKE, []wire.Transform{encr(iana.ENCR_AES_GCM_16, key(256)...), tr(iana.TransformPRF, 7), tr(iana.TransformKE, 2)}), false,
			"key exchange: offered MODP1024, allowed DH19 or CURVE25519; in all, offered AES_GCM_16_256-HMAC_SHA2_512-MODP1024; " +
				"allowed AES_GCM_16_256-HMAC_SHA2_512-DH19+CURVE25519",
		},
		{
			"cipher", mustIKE(t, "aes_gcm256-sha2_512-dh19"),
			offer(iana.ProtoIKE, []wire.Transform{encr(iana.ENCR_3DES), encr(1024, key(77)...), tr(iana.TransformPRF, 7), tr(iana.TransformInteg, 2), tr(iana.TransformKE, 19)}), false,
			"encryption: offered 3DES_CBC or ENCR_1024_77, allowed AES_GCM_16_256; in all, offered 3DES_CBC+ENCR_1024_77-HMAC_SHA2_512-HMAC_SHA1_96-DH19; " +
				"allowed AES_GCM_16_256-HMAC_SHA2_512-DH19",
		},
		{
			"the nearest pair", mustIKE(t, "aes_gcm256-sha2_512-dh19,aes256-sha2-dh14"),
			offer(iana.ProtoIKE,
				[]wire.Transform{encr(iana.ENCR_AES_GCM_16, key(128)...), tr(iana.TransformPRF, 5), tr(iana.TransformKE, 2)},
				[]wire.Transform{encr(iana.ENCR_AES_CBC, key(256)...), tr(iana.TransformPRF, 5), tr(iana.TransformInteg, 2), tr(iana.TransformKE, 14)}), false,
			"integrity: offered HMAC_SHA1_96, allowed HMAC_SHA2_256_128; ",
		},
		{
			"ESN", mustESP(t, "aes_gcm256;sn=esn"), offer(iana.ProtoESP, []wire.Transform{encr(iana.ENCR_AES_GCM_16, key(256)...), tr(iana.TransformSN, 0)}), true,
			"sequence numbers (esn=): offered NO_ESN, allowed ESN; in all, offered AES_GCM_16_256;SN=NO_ESN; allowed AES_GCM_16_256;SN=ESN",
		},
		{
			"additional key exchange", mustIKE(t, "aes_gcm256-sha2_512-dh19"),
			offer(iana.ProtoIKE, []wire.Transform{
				encr(iana.ENCR_AES_GCM_16, key(256)...), tr(iana.TransformPRF, 7), tr(iana.TransformKE, 19),
				tr(iana.TransformAddKE1, 36), tr(iana.TransformAddKE1, 37),
			}), false,
			"additional key exchange 1: offered ADDKE1_ML_KEM_768 or ADDKE1_ML_KEM_1024, allowed NONE: additional key exchanges " +
				"(RFC 9370) are not implemented in this version of ikegod; in all, offered AES_GCM_16_256-HMAC_SHA2_512-DH19-ADDKE1_ML_KEM_768+ADDKE1_ML_KEM_1024; " +
				"allowed AES_GCM_16_256-HMAC_SHA2_512-DH19",
		},
		{
			"all seven additional key exchanges and nothing else in common", mustIKE(t, "aes_gcm256-sha2_512-dh19"),
			offer(iana.ProtoIKE, []wire.Transform{
				encr(iana.ENCR_3DES), tr(iana.TransformPRF, 1), tr(iana.TransformInteg, 1), tr(iana.TransformKE, 1), tr(6, 36), tr(7, 36),
				tr(8, 36), tr(9, 36), tr(10, 36), tr(11, 36), tr(12, 36),
			}), false,
			"encryption: offered 3DES_CBC, allowed AES_GCM_16_256; in all, offered 3DES_CBC-HMAC_MD5-",
		},
		{"nothing offered", mustIKE(t, "aes_gcm256-sha2_512-dh19"), wire.SA{}, false, "the offer holds no proposal; in all, offered nothing; "},
		{"nothing allowed", nil, offer(iana.ProtoIKE, nil), false, "nothing is allowed; "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			protocol := iana.ProtoIKE
			if tc.esp {
				protocol = iana.ProtoESP
			}
			_, err := tc.policy.Choose(tc.offer, protocol, true, iana.KE_NONE)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Fatalf("message\n%v, expected\n%s", err, tc.want)
			}
		})
	}
	// A hostile offer does not make a long message.
	var ts []wire.Transform
	for i := range 20000 {
		ts = append(ts, tr(iana.TransformKE, uint16(1000+i)))
	}
	_, err := mustIKE(t, "").Choose(offer(iana.ProtoIKE, ts), iana.ProtoIKE, true, iana.KE_NONE)
	if err == nil || len(err.Error()) > 5000 {
		t.Fatalf("message of %d octets", len(err.Error()))
	}
}

// TestInitiatorAcceptsResponder: whatever a responder chooses from our offer, we accept, with the same suite.
func TestInitiatorAcceptsResponder(t *testing.T) {
	values := []string{"", "aes_gcm256-sha2-dh19", "aes256+aes128-sha2_512+sha2-dh14+dh19", "chacha20_poly1305,aes128-sha2", "aes_gcm+aes-sha2_384-dh20+dh21"}
	for _, a := range values {
		for _, b := range values {
			initiator, responder := mustIKE(t, a), mustIKE(t, b)
			c, err := responder.Choose(initiator.Offer(iana.ProtoIKE, nil, true), iana.ProtoIKE, true, initiator[0].KE[0])
			if err != nil {
				continue
			}
			got, err := initiator.Accept(c.Reply, iana.ProtoIKE, true)
			if err != nil || got.Suite != c.Suite || got.Number != c.Number {
				t.Errorf("%q to %q: chosen %v, accepted %v, error %v", a, b, c.Suite, got.Suite, err)
			}
		}
	}
	for _, withKE := range []bool{true, false} {
		initiator, responder := mustESP(t, "aes_gcm256+aes256-dh19"), mustESP(t, "aes256,aes_gcm256-dh19")
		c, err := responder.Choose(initiator.Offer(iana.ProtoESP, espSPI, withKE), iana.ProtoESP, withKE, iana.KE_NONE)
		if err != nil {
			t.Fatal(err)
		}
		c.Reply.Proposals[0].SPI = espSPI
		got, err := initiator.Accept(c.Reply, iana.ProtoESP, withKE)
		if err != nil || got.Suite != c.Suite || !bytes.Equal(got.SPI, espSPI) {
			t.Errorf("with KE %v: chosen %v, accepted %v, error %v", withKE, c.Suite, got.Suite, err)
		}
	}
}

// TestChoiceIsACopy: what Choose returns does not change with the packet that it came from.
func TestChoiceIsACopy(t *testing.T) {
	o := mustESP(t, "aes_gcm256").Offer(iana.ProtoESP, espSPI, false)
	c, err := mustESP(t, "").Choose(o, iana.ProtoESP, false, iana.KE_NONE)
	if err != nil {
		t.Fatal(err)
	}
	o.Proposals[0].SPI[0] ^= 0xff
	o.Proposals[0].Transforms[0].Attributes[0].Value = 1
	if c.SPI[0] != espSPI[0] || c.Reply.Proposals[0].Transforms[0].KeyLength() != 256 {
		t.Error("the choice aliases the offer")
	}
}

func BenchmarkChoose(b *testing.B) {
	p := mustIKE(b, "")
	o := p.Offer(iana.ProtoIKE, nil, true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Choose(o, iana.ProtoIKE, true, iana.KE_CURVE25519); err != nil {
			b.Fatal(err)
		}
	}
}

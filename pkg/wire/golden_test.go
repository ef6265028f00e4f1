package wire_test

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// octets reads hex with blanks and line ends, as the figures of the RFC are copied.
func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func span(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// golden is every payload as the figures of RFC 7296 section 3 draw it, written by hand, with its generic header.
var golden = []struct {
	name  string
	first iana.Payload
	hex   string
	want  []wire.Item
}{
	{
		"SA-ike", iana.PayloadSA, // figures 6 to 9; RFC 7296 3.3
		`00 00 00 30
		   00 00 00 2c 01 01 00 04
		     03 00 00 0c 01 00 00 14 80 0e 01 00
		     03 00 00 08 02 00 00 05
		     03 00 00 08 04 00 00 1f
		     00 00 00 08 04 00 00 13`,
		[]wire.Item{{Payload: wire.SA{Proposals: []wire.Proposal{{
			Number: 1, Protocol: iana.ProtoIKE,
			Transforms: []wire.Transform{
				{Type: iana.TransformEncr, ID: uint16(iana.ENCR_AES_GCM_16), Attributes: []wire.Attribute{{Type: iana.AttrKeyLength, Short: true, Value: 256}}},
				{Type: iana.TransformPRF, ID: uint16(iana.PRF_HMAC_SHA2_256)},
				{Type: iana.TransformKE, ID: uint16(iana.KE_CURVE25519)},
				{Type: iana.TransformKE, ID: uint16(iana.KE_ECP256)},
			},
		}}}}},
	},
	{
		"SA-two-proposals-unknown-attribute", iana.PayloadSA,
		`00 00 00 41
		   02 00 00 25 01 03 04 02 c0 01 02 03
		     03 00 00 11 01 00 00 0c 80 0e 00 80 00 63 00 01 ff
		     00 00 00 08 05 00 00 01
		   00 00 00 18 02 03 00 02
		     03 00 00 08 01 00 00 1c
		     00 00 00 08 f1 00 12 34`,
		[]wire.Item{{Payload: wire.SA{Proposals: []wire.Proposal{
			{
				Number: 1, Protocol: iana.ProtoESP, SPI: []byte{0xc0, 1, 2, 3},
				Transforms: []wire.Transform{
					{Type: iana.TransformEncr, ID: uint16(iana.ENCR_AES_CBC), Attributes: []wire.Attribute{
						{Type: iana.AttrKeyLength, Short: true, Value: 128}, {Type: 99, Data: []byte{0xff}},
					}},
					{Type: iana.TransformSN, ID: uint16(iana.SN_ESN)},
				},
			},
			{
				Number: 2, Protocol: iana.ProtoESP,
				Transforms: []wire.Transform{
					{Type: iana.TransformEncr, ID: uint16(iana.ENCR_CHACHA20_POLY1305)},
					{Type: 241, ID: 0x1234},
				},
			},
		}}}},
	},
	{
		"KE", iana.PayloadKE, // figure 10
		`00 00 00 0c 00 13 00 00 de ad be ef`,
		[]wire.Item{{Payload: wire.KE{Method: iana.KE_ECP256, Data: []byte{0xde, 0xad, 0xbe, 0xef}}}},
	},
	{
		"IDi-IDr", iana.PayloadIDi, // figure 11
		`24 00 00 0c 02 00 00 00 77 65 73 74
		 00 00 00 0c 01 00 00 00 c0 01 02 17`,
		[]wire.Item{
			{Payload: wire.ID{Payload: iana.PayloadIDi, IDType: iana.ID_FQDN, Data: []byte("west")}},
			{Payload: wire.ID{Payload: iana.PayloadIDr, IDType: iana.ID_IPV4_ADDR, Data: []byte{192, 1, 2, 23}}},
		},
	},
	{
		"CERT-CERTREQ", iana.PayloadCERT, // figures 12 and 13
		`26 00 00 08 04 30 01 02
		 00 00 00 05 04`,
		[]wire.Item{
			{Payload: wire.Cert{Encoding: iana.CertX509Signature, Data: []byte{0x30, 1, 2}}},
			{Payload: wire.CertReq{Encoding: iana.CertX509Signature}},
		},
	},
	{
		"AUTH", iana.PayloadAUTH, // figure 14
		`00 00 00 0a 02 00 00 00 ab cd`,
		[]wire.Item{{Payload: wire.Auth{Method: iana.AuthSharedKey, Data: []byte{0xab, 0xcd}}}},
	},
	{
		"Nonce", iana.PayloadNonce, // figure 15
		`00 00 00 14 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f`,
		[]wire.Item{{Payload: wire.Nonce{Data: span(16)}}},
	},
	{
		"Notify", iana.PayloadNotify, // figure 16
		`29 00 00 08 00 00 40 00
		 29 00 00 0c 03 04 40 09 12 34 56 78
		 00 00 00 0a 00 00 ff ff 00 13`,
		[]wire.Item{
			{Payload: wire.Notify{Notify: iana.INITIAL_CONTACT}},
			{Payload: wire.Notify{Protocol: iana.ProtoESP, SPI: []byte{0x12, 0x34, 0x56, 0x78}, Notify: iana.REKEY_SA}},
			{Payload: wire.Notify{Notify: 65535, Data: []byte{0, 19}}},
		},
	},
	{
		"Delete", iana.PayloadDelete, // figure 17
		`2a 00 00 08 01 00 00 00
		 00 00 00 10 03 04 00 02 00 00 00 01 00 00 00 02`,
		[]wire.Item{
			{Payload: wire.Delete{Protocol: iana.ProtoIKE}},
			{Payload: wire.Delete{Protocol: iana.ProtoESP, SPISize: 4, SPIs: [][]byte{{0, 0, 0, 1}, {0, 0, 0, 2}}}},
		},
	},
	{
		"VendorID", iana.PayloadVendorID, // figure 18
		`2b 00 00 07 69 6b 65
		 00 00 00 04`,
		[]wire.Item{{Payload: wire.VendorID{Data: []byte("ike")}}, {Payload: wire.VendorID{}}},
	},
	{
		"TSi-TSr", iana.PayloadTSi, // figures 19 and 20
		`2d 00 00 18 01 00 00 00
		   07 06 00 10 00 50 00 50 c0 00 01 00 c0 00 01 ff
		 00 00 00 39 02 00 00 00
		   08 00 00 28 00 00 ff ff 20 01 0d b8 00 00 00 02 00 00 00 00 00 00 00 00
		                           20 01 0d b8 00 00 00 02 ff ff ff ff ff ff ff ff
		   0a 00 00 09 6c 61 62 65 6c`,
		[]wire.Item{
			{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: []wire.Selector{{
				TSType: iana.TS_IPV4_ADDR_RANGE, IPProtocol: 6, StartPort: 80, EndPort: 80,
				Start: netip.MustParseAddr("192.0.1.0"), End: netip.MustParseAddr("192.0.1.255"),
			}}}},
			{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: []wire.Selector{
				{
					TSType: iana.TS_IPV6_ADDR_RANGE, EndPort: 65535,
					Start: netip.MustParseAddr("2001:db8:0:2::"), End: netip.MustParseAddr("2001:db8:0:2:ffff:ffff:ffff:ffff"),
				},
				{TSType: iana.TS_SECLABEL, Raw: []byte("label")},
			}}},
		},
	},
	{
		"CP", iana.PayloadCP, // figures 22 and 23
		`00 00 00 18 01 00 00 00
		   00 01 00 00
		   00 03 00 04 08 08 08 08
		   7f ff 00 00`,
		[]wire.Item{{Payload: wire.CP{CFGType: iana.CFG_REQUEST, Attributes: []wire.CFGAttribute{
			{Type: iana.INTERNAL_IP4_ADDRESS}, {Type: iana.INTERNAL_IP4_DNS, Data: []byte{8, 8, 8, 8}}, {Type: 0x7fff},
		}}}},
	},
	{
		"EAP", iana.PayloadEAP, // figures 24 and 25
		`00 00 00 09 01 07 00 05 01`,
		[]wire.Item{{Payload: wire.EAP{Data: []byte{1, 7, 0, 5, 1}}}},
	},
	{
		"unknown-critical-and-not", 200,
		`c9 80 00 06 01 02
		 00 00 00 04`,
		[]wire.Item{
			{Payload: wire.Unknown{PayloadType: 200, Data: []byte{1, 2}}, Critical: true},
			{Payload: wire.Unknown{PayloadType: 201}},
		},
	},
	{
		"known-with-critical-bit", iana.PayloadVendorID, // the bit is ignored on known types, RFC 7296 2.5
		`00 80 00 05 01`,
		[]wire.Item{{Payload: wire.VendorID{Data: []byte{1}}, Critical: true}},
	},
}

func TestGolden(t *testing.T) {
	for _, c := range golden {
		t.Run(c.name, func(t *testing.T) {
			b := octets(t, c.hex)
			items, err := wire.ParseChain(c.first, b, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(items, c.want) {
				t.Errorf("parsed\n %+v, want\n %+v", items, c.want)
			}
			if got := wire.AppendChain(nil, c.want); string(got) != string(b) {
				t.Errorf("appended\n %x, want\n %x", got, b)
			}
			if n := wire.ChainLen(c.want); n != len(b) {
				t.Errorf("ChainLen %d, want %d", n, len(b))
			}
			if wire.First(c.want) != c.first {
				t.Errorf("First %v, want %v", wire.First(c.want), c.first)
			}
		})
	}
}

// The header of figure 4 with an SK payload (figure 21) and with an SKF payload (RFC 7383 2.5).
func TestGoldenMessages(t *testing.T) {
	header := wire.Header{
		InitiatorSPI: 0x0102030405060708, ResponderSPI: 0x1112131415161718, MajorVersion: 2,
		Exchange: iana.IKE_AUTH, Flags: wire.FlagInitiator, MessageID: 1,
	}
	for _, c := range []struct {
		name, hex string
		next      iana.Payload
		length    uint32
		items     []wire.Item
	}{
		{
			"SK", `0102030405060708 1112131415161718 2e 20 23 08 00000001 00000024
			       23 00 00 08 aa bb cc dd`,
			iana.PayloadSK, 36,
			[]wire.Item{{Payload: wire.SK{Next: iana.PayloadIDi, Data: []byte{0xaa, 0xbb, 0xcc, 0xdd}}}},
		},
		{
			"SKF", `0102030405060708 1112131415161718 35 20 23 08 00000001 00000026
			       23 00 00 0a 00 01 00 02 aa bb`,
			iana.PayloadSKF, 38,
			[]wire.Item{{Payload: wire.SKF{Next: iana.PayloadIDi, Number: 1, Total: 2, Data: []byte{0xaa, 0xbb}}}},
		},
		{
			"notify-before-SK", `0102030405060708 1112131415161718 29 20 23 08 00000001 00000029
			       2e 00 00 08 00 00 40 00
			       00 00 00 05 aa`,
			iana.PayloadNotify, 41,
			[]wire.Item{{Payload: wire.Notify{Notify: iana.INITIAL_CONTACT}}, {Payload: wire.SK{Data: []byte{0xaa}}}},
		},
		{"empty", `0102030405060708 1112131415161718 00 20 23 08 00000001 0000001c`, iana.PayloadNone, 28, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := octets(t, c.hex)
			want := header
			want.NextPayload, want.Length = c.next, c.length
			m, err := wire.Parse(b)
			if err != nil || m.Header != want || !reflect.DeepEqual(m.Payloads, c.items) {
				t.Fatalf("parsed %+v, %v, want %+v %+v", m, err, want, c.items)
			}
			in := wire.Message{Header: header, Payloads: c.items}
			if got := in.AppendTo([]byte("before")); string(got) != "before"+string(b) {
				t.Errorf("appended %x", got)
			}
			if in.Header != header {
				t.Error("AppendTo changed the message")
			}
		})
	}
}

func TestSealedHeaders(t *testing.T) {
	h := wire.Header{InitiatorSPI: 1, ResponderSPI: 2, MajorVersion: 2, Exchange: iana.INFORMATIONAL, Flags: wire.FlagResponse, MessageID: 7}
	body := span(30)
	b := append(wire.AppendSKHeader(nil, h, iana.PayloadDelete, len(body)), body...)
	sk := wire.Message{Header: h, Payloads: []wire.Item{{Payload: wire.SK{Next: iana.PayloadDelete, Data: body}}}}
	if string(b) != string(sk.AppendTo(nil)) {
		t.Errorf("AppendSKHeader gives %x, want %x", b, sk.AppendTo(nil))
	}
	b = append(wire.AppendSKFHeader(nil, h, iana.PayloadNone, 2, 3, len(body)), body...)
	skf := wire.Message{Header: h, Payloads: []wire.Item{{Payload: wire.SKF{Number: 2, Total: 3, Data: body}}}}
	if string(b) != string(skf.AppendTo(nil)) {
		t.Errorf("AppendSKFHeader gives %x, want %x", b, skf.AppendTo(nil))
	}
	m, err := wire.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := wire.Get[wire.SKF](m.Payloads)
	if !ok || string(b[len(b)-len(got.Data):]) != string(body) {
		t.Error("the sealed body is not the end of the message")
	}
}

func TestGet(t *testing.T) {
	items := []wire.Item{
		{Payload: wire.Notify{Notify: iana.COOKIE, Data: []byte("1")}},
		{Payload: wire.TS{Payload: iana.PayloadTSi}},
		{Payload: wire.TS{Payload: iana.PayloadTSr}},
		{Payload: wire.Notify{Notify: iana.COOKIE2}},
		{Payload: wire.Notify{Notify: iana.COOKIE, Data: []byte("2")}},
	}
	if n, ok := wire.Get[wire.Notify](items); !ok || n.Notify != iana.COOKIE {
		t.Errorf("Get gives %v %t", n, ok)
	}
	if _, ok := wire.Get[wire.SA](items); ok {
		t.Error("Get finds what is not there")
	}
	if p, ok := wire.GetType[wire.TS](items, iana.PayloadTSr); !ok || p.Payload != iana.PayloadTSr {
		t.Errorf("GetType gives %v %t", p, ok)
	}
	if _, ok := wire.GetType[wire.ID](items, iana.PayloadIDi); ok {
		t.Error("GetType finds what is not there")
	}
	if n, ok := wire.GetNotify(items, iana.COOKIE); !ok || string(n.Data) != "1" {
		t.Errorf("GetNotify gives %v %t", n, ok)
	}
	if _, ok := wire.GetNotify(items, iana.REKEY_SA); ok {
		t.Error("GetNotify finds what is not there")
	}
}

func TestKeyLength(t *testing.T) {
	if n := (wire.Transform{}).KeyLength(); n != 0 {
		t.Errorf("without attribute: %d", n)
	}
	long := wire.Transform{Attributes: []wire.Attribute{{Type: iana.AttrKeyLength, Data: []byte{0, 128}}}}
	if n := long.KeyLength(); n != 0 {
		t.Errorf("in the long format, which RFC 7296 3.3.5 forbids: %d", n)
	}
}

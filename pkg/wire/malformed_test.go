package wire_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

func TestParseHeader(t *testing.T) {
	b := octets(t, `0102030405060708 1112131415161718 21 37 22 ff 01020304 0000001d 99`)
	h, err := wire.ParseHeader(b)
	want := wire.Header{
		InitiatorSPI: 0x0102030405060708, ResponderSPI: 0x1112131415161718, NextPayload: iana.PayloadSA,
		MajorVersion: 3, MinorVersion: 7, Exchange: iana.IKE_SA_INIT, Flags: 0xff, MessageID: 0x01020304, Length: 29,
	}
	if err != nil || h != want {
		t.Errorf("got %+v, %v, want %+v", h, err, want)
	}
	if !h.Response() || !h.FromInitiator() || (wire.Header{}).Response() || (wire.Header{}).FromInitiator() {
		t.Error("flags R and I are misread")
	}
	if got := h.AppendTo(nil); string(got) != string(b[:wire.HeaderLen]) {
		t.Errorf("appended %x", got)
	}
	if n := testing.AllocsPerRun(100, func() { h, err = wire.ParseHeader(b) }); n != 0 {
		t.Errorf("ParseHeader allocates %v times", n)
	}
	// Another major version: the header alone is read, whatever follows.
	m, err := wire.Parse(b)
	if err != nil || m.Header != want || m.Payloads != nil {
		t.Errorf("Parse of version 3 gives %+v, %v", m, err)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	good := octets(t, `0102030405060708 1112131415161718 00 20 22 08 00000000 0000001c`)
	for n := range good {
		if _, err := wire.ParseHeader(good[:n]); err == nil {
			t.Errorf("a header cut after %d octets is accepted", n)
		}
	}
	var syntax *wire.SyntaxError
	_, err := wire.ParseHeader(append(good, 0))
	if !errors.As(err, &syntax) || syntax.Off != 24 || !strings.HasPrefix(err.Error(), "IKE header at octet 24: ") {
		t.Errorf("one octet more than Length: %v", err)
	}
	long := make([]byte, wire.MaxMessage+1)
	copy(long, good)
	binary.BigEndian.PutUint32(long[24:], uint32(len(long)))
	if _, err := wire.ParseHeader(long); err == nil {
		t.Error("a message over the cap is accepted")
	}
}

// malformed are chains with one fault each: where it is to be found and what is said about it.
var malformed = []struct {
	name    string
	first   iana.Payload
	hex     string
	payload iana.Payload
	off     int
	reason  string
}{
	{"nothing-where-a-payload-is-announced", iana.PayloadSA, ``, iana.PayloadSA, 0, "needs 1 octet, left are 0"},
	{"generic-header-cut", iana.PayloadVendorID, `00 00 00`, iana.PayloadVendorID, 2, "Payload Length needs 2"},
	{"length-below-header", iana.PayloadVendorID, `00 00 00 03`, iana.PayloadVendorID, 2, "shorter than the generic header"},
	{"length-zero", iana.PayloadVendorID, `2b 00 00 00`, iana.PayloadVendorID, 2, "shorter than the generic header"},
	{"length-beyond-end", iana.PayloadVendorID, `00 00 00 06 01`, iana.PayloadVendorID, 4, "needs 2 octets, left are 1"},
	{"left-over", iana.PayloadVendorID, `00 00 00 04 01`, iana.PayloadVendorID, 4, "1 octet left over"},
	{"left-over-without-payload", iana.PayloadNone, `01`, iana.PayloadNone, 0, "1 octet left over"},
	{"second-payload-missing", iana.PayloadVendorID, `2b 00 00 04`, iana.PayloadVendorID, 4, "needs 1 octet"},
	{"sk-inside", iana.PayloadSK, `00 00 00 05 01`, iana.PayloadSK, 0, "inside another"},
	{"skf-inside", iana.PayloadVendorID, `35 00 00 04 00 00 00 09 00 01 00 01 01`, iana.PayloadSKF, 4, "inside another"},

	{"sa-empty", iana.PayloadSA, `00 00 00 04`, iana.PayloadSA, 4, "a proposal needs 1"},
	{"sa-last-substruc", iana.PayloadSA, `00 00 00 14 01 00 00 10 01 01 00 01 00 00 00 08 01 00 00 01`, iana.PayloadSA, 4, "neither 0 nor 2"},
	{"sa-more-announced", iana.PayloadSA, `00 00 00 14 02 00 00 10 01 01 00 01 00 00 00 08 01 00 00 01`, iana.PayloadSA, 20, "a proposal needs 1"},
	{"sa-more-than-announced", iana.PayloadSA, `00 00 00 15 00 00 00 10 01 01 00 01 00 00 00 08 01 00 00 01 00`, iana.PayloadSA, 20, "left over after the last proposal"},
	{"proposal-short", iana.PayloadSA, `00 00 00 0c 00 00 00 07 01 01 00 01`, iana.PayloadSA, 6, "shorter than a proposal"},
	{"proposal-long", iana.PayloadSA, `00 00 00 0c 00 00 00 09 01 01 00 01`, iana.PayloadSA, 8, "needs 5 octets, left are 4"},
	{"proposal-spi", iana.PayloadSA, `00 00 00 0e 00 00 00 0a 01 01 08 01 01 02`, iana.PayloadSA, 12, "the SPI of a proposal needs 8"},
	{"proposal-no-transforms", iana.PayloadSA, `00 00 00 0c 00 00 00 08 01 01 00 00`, iana.PayloadSA, 12, "without transforms"},
	{"proposal-claims-255-transforms", iana.PayloadSA, `00 00 00 14 00 00 00 10 01 01 00 ff 03 00 00 08 01 00 00 01`, iana.PayloadSA, 12, "255 transforms do not fit"},
	{"proposal-fewer-transforms", iana.PayloadSA, `00 00 00 1c 00 00 00 18 01 01 00 01 00 00 00 08 01 00 00 01 00 00 00 08 01 00 00 01`, iana.PayloadSA, 20, "left over after the last transform"},
	{"transform-last-substruc", iana.PayloadSA, `00 00 00 14 00 00 00 10 01 01 00 01 03 00 00 08 01 00 00 01`, iana.PayloadSA, 12, "Last Substruc of a transform is 3, expected 0"},
	{"transform-more-substruc", iana.PayloadSA, `00 00 00 1c 00 00 00 18 01 01 00 02 00 00 00 08 01 00 00 01 00 00 00 08 01 00 00 01`, iana.PayloadSA, 12, "Last Substruc of a transform is 0, expected 3"},
	{"transform-short", iana.PayloadSA, `00 00 00 14 00 00 00 10 01 01 00 01 00 00 00 07 01 00 00 01`, iana.PayloadSA, 14, "shorter than a transform"},
	{"transform-long", iana.PayloadSA, `00 00 00 14 00 00 00 10 01 01 00 01 00 00 00 09 01 00 00 01`, iana.PayloadSA, 16, "a transform needs 5"},
	{"attribute-cut", iana.PayloadSA, `00 00 00 17 00 00 00 13 01 01 00 01 00 00 00 0b 01 00 00 01 80 0e 01`, iana.PayloadSA, 22, "value or length needs 2"},
	{"attribute-long", iana.PayloadSA, `00 00 00 18 00 00 00 14 01 01 00 01 00 00 00 0c 01 00 00 01 00 0e 00 01`, iana.PayloadSA, 24, "value needs 1"},

	{"ke-short", iana.PayloadKE, `00 00 00 07 00 13 00`, iana.PayloadKE, 6, "RESERVED needs 2"},
	{"id-short", iana.PayloadIDi, `00 00 00 07 01 00 00`, iana.PayloadIDi, 5, "RESERVED needs 3"},
	{"cert-short", iana.PayloadCERT, `00 00 00 04`, iana.PayloadCERT, 4, "Cert Encoding needs 1"},
	{"certreq-short", iana.PayloadCERTREQ, `00 00 00 04`, iana.PayloadCERTREQ, 4, "Cert Encoding needs 1"},
	{"auth-short", iana.PayloadAUTH, `00 00 00 05 02`, iana.PayloadAUTH, 5, "RESERVED needs 3"},
	{"nonce-15", iana.PayloadNonce, `00 00 00 13 ` + strings.Repeat("00", 15), iana.PayloadNonce, 4, "a nonce of 15 octets"},
	{"nonce-257", iana.PayloadNonce, `00 00 01 05 ` + strings.Repeat("00", 257), iana.PayloadNonce, 4, "a nonce of 257 octets"},
	{"notify-short", iana.PayloadNotify, `00 00 00 07 00 00 40`, iana.PayloadNotify, 6, "Notify Message Type needs 2"},
	{"notify-spi", iana.PayloadNotify, `00 00 00 0a 03 04 40 09 01 02`, iana.PayloadNotify, 8, "the SPI of a notify needs 4 octets, left are 2"},
	{"delete-short", iana.PayloadDelete, `00 00 00 06 03 04`, iana.PayloadDelete, 6, "Num of SPIs needs 2"},
	{"delete-fewer", iana.PayloadDelete, `00 00 00 0c 03 04 00 02 00 00 00 01`, iana.PayloadDelete, 6, "2 SPIs of 4 octets do not make 4"},
	{"delete-more", iana.PayloadDelete, `00 00 00 09 03 04 00 00 01`, iana.PayloadDelete, 6, "0 SPIs of 4 octets do not make 1"},
	{"delete-no-size", iana.PayloadDelete, `00 00 00 08 01 00 00 01`, iana.PayloadDelete, 6, "1 SPIs of no size"},
	{"ts-none", iana.PayloadTSi, `00 00 00 08 00 00 00 00`, iana.PayloadTSi, 8, "no selector"},
	{"ts-fewer", iana.PayloadTSi, `00 00 00 08 01 00 00 00`, iana.PayloadTSi, 8, "a selector needs 1"},
	{"ts-more", iana.PayloadTSr, `00 00 00 0d 01 00 00 00 0a 00 00 04 00`, iana.PayloadTSr, 12, "left over after the last selector"},
	{"ts-length-zero", iana.PayloadTSi, `00 00 00 0c 01 00 00 00 0a 00 00 00`, iana.PayloadTSi, 10, "shorter than its own header"},
	{"ts-ipv4-length", iana.PayloadTSi, `00 00 00 14 01 00 00 00 07 00 00 0c 00 00 ff ff c0 00 01 00`, iana.PayloadTSi, 10, "a TS_IPV4_ADDR_RANGE has 16"},
	{"ts-ipv6-length", iana.PayloadTSi, `00 00 00 18 01 00 00 00 08 00 00 10 00 00 ff ff c0 00 01 00 c0 00 01 ff`, iana.PayloadTSi, 10, "a TS_IPV6_ADDR_RANGE has 40"},
	{"ts-unknown-long", iana.PayloadTSi, `00 00 00 0d 01 00 00 00 0a 00 00 06 00`, iana.PayloadTSi, 12, "a selector needs 2"},
	{"cp-short", iana.PayloadCP, `00 00 00 06 01 00`, iana.PayloadCP, 5, "RESERVED needs 3"},
	{"cp-attribute-cut", iana.PayloadCP, `00 00 00 0b 01 00 00 00 00 01 00`, iana.PayloadCP, 10, "length needs 2"},
	{"cp-attribute-long", iana.PayloadCP, `00 00 00 0d 01 00 00 00 00 01 00 04 01`, iana.PayloadCP, 12, "value needs 4"},
	{"eap-short", iana.PayloadEAP, `00 00 00 07 01 01 00`, iana.PayloadEAP, 4, "an EAP message of 3 octets"},
	{"eap-length", iana.PayloadEAP, `00 00 00 09 01 01 00 06 01`, iana.PayloadEAP, 6, "says 6 octets, the payload holds 5"},
}

func TestMalformed(t *testing.T) {
	const base = 1000
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			_, err := wire.ParseChain(c.first, octets(t, c.hex), base)
			var syntax *wire.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if syntax.Payload != c.payload || syntax.Off != base+c.off || !strings.Contains(syntax.Reason, c.reason) {
				t.Errorf("got %q, want payload %v at octet %d: %q", err, c.payload, base+c.off, c.reason)
			}
		})
	}
}

func TestMalformedOutside(t *testing.T) {
	for _, c := range []struct{ name, hex, reason string }{
		{"after-sk", `0102030405060708 1112131415161718 2e 20 23 08 00000001 00000026 23 00 00 08 aa bb cc dd 00 00`, "payload SK at octet 36: 2 octets left over"},
		{"sk-not-last", `0102030405060708 1112131415161718 2e 20 23 08 00000001 00000025 2b 00 00 05 aa 00 00 00 04`, "payload SK at octet 33: 4 octets left over"},
		{"skf-number-zero", `0102030405060708 1112131415161718 35 20 23 08 00000001 00000024 23 00 00 08 00 00 00 02`, "payload SKF at octet 32: fragment 0 of 2"},
		{"skf-total-zero", `0102030405060708 1112131415161718 35 20 23 08 00000001 00000024 23 00 00 08 00 00 00 00`, "payload SKF at octet 32: fragment 0 of 0"},
		{"skf-number-over-total", `0102030405060708 1112131415161718 35 20 23 08 00000001 00000024 23 00 00 08 00 03 00 02`, "payload SKF at octet 32: fragment 3 of 2"},
		{"skf-cut", `0102030405060708 1112131415161718 35 20 23 08 00000001 00000023 23 00 00 07 00 01 00`, "payload SKF at octet 34: Total Fragments needs 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := wire.Parse(octets(t, c.hex))
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want %q", err, c.reason)
			}
		})
	}
}

// TestTruncated cuts a message that holds every payload after each octet, with the header's Length made to agree, and each inner chain too.
func TestTruncated(t *testing.T) {
	for _, m := range everything() {
		whole := m.AppendTo(nil)
		if _, err := wire.Parse(whole); err != nil {
			t.Fatal(err)
		}
		for n := wire.HeaderLen; n < len(whole); n++ {
			cut := append([]byte(nil), whole[:n]...)
			if _, err := wire.Parse(cut); err == nil {
				t.Errorf("cut after %d of %d octets: no error", n, len(whole))
			}
			binary.BigEndian.PutUint32(cut[24:], uint32(n))
			if _, err := wire.Parse(cut); err == nil {
				t.Errorf("cut after %d of %d octets, Length agreeing: no error", n, len(whole))
			}
			if _, err := wire.ParseChain(m.Payloads[0].Type(), cut[wire.HeaderLen:], 0); err == nil {
				t.Errorf("chain cut after %d of %d octets: no error", n-wire.HeaderLen, len(whole)-wire.HeaderLen)
			}
		}
	}
}

// TestCaps builds what is just inside each cap and one more.
func TestCaps(t *testing.T) {
	many := func(n int, it wire.Payload) []wire.Item {
		items := make([]wire.Item, n)
		for i := range items {
			items[i].Payload = it
		}
		return items
	}
	proposals := func(n, transforms int) []wire.Item {
		sa := wire.SA{Proposals: make([]wire.Proposal, n)}
		for i := range sa.Proposals {
			sa.Proposals[i] = wire.Proposal{Number: uint8(i + 1), Transforms: make([]wire.Transform, transforms)}
		}
		return many(1, sa)
	}
	attributes := func(n int) []wire.Item {
		tr := wire.Transform{Attributes: make([]wire.Attribute, n)}
		return many(1, wire.SA{Proposals: []wire.Proposal{{Number: 1, Transforms: []wire.Transform{tr}}}})
	}
	deletes := func(n int) []wire.Item {
		d := wire.Delete{Protocol: iana.ProtoESP, SPISize: 4, SPIs: make([][]byte, n)}
		for i := range d.SPIs {
			d.SPIs[i] = []byte{1, 2, 3, 4}
		}
		return many(1, d)
	}
	for _, c := range []struct {
		name string
		cap  int
		make func(n int) []wire.Item
	}{
		{"payloads", wire.MaxPayloads, func(n int) []wire.Item { return many(n, wire.VendorID{}) }},
		{"proposals", wire.MaxProposals, func(n int) []wire.Item { return proposals(n, 1) }},
		{"transforms-of-all", wire.MaxSATransforms / 32, func(n int) []wire.Item { return proposals(n, 32) }},
		{"attributes", wire.MaxAttributes, attributes},
		{"delete-spis", wire.MaxDeleteSPIs, deletes},
		{"cfg-attributes", wire.MaxCFGAttributes, func(n int) []wire.Item { return many(1, wire.CP{Attributes: make([]wire.CFGAttribute, n)}) }},
		{"nonce", wire.MaxNonce, func(n int) []wire.Item { return many(1, wire.Nonce{Data: span(n)}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inside, outside := c.make(c.cap), c.make(c.cap+1)
			if _, err := wire.ParseChain(wire.First(inside), wire.AppendChain(nil, inside), 0); err != nil {
				t.Errorf("%d are refused: %v", c.cap, err)
			}
			if _, err := wire.ParseChain(wire.First(outside), wire.AppendChain(nil, outside), 0); err == nil {
				t.Errorf("%d are accepted", c.cap+1)
			}
		})
	}
}

// TestMemory bounds what the worst message of the largest size costs: no more than some dozens of octets for each of its own.
func TestMemory(t *testing.T) {
	const runs = 100
	vendor := make([]wire.Item, wire.MaxPayloads)
	for i := range vendor {
		vendor[i].Payload = wire.VendorID{}
	}
	cfg := wire.CP{Attributes: make([]wire.CFGAttribute, wire.MaxCFGAttributes)}
	transforms := wire.SA{Proposals: make([]wire.Proposal, wire.MaxProposals)}
	for i := range transforms.Proposals {
		transforms.Proposals[i].Transforms = make([]wire.Transform, wire.MaxSATransforms/wire.MaxProposals)
	}
	spis := wire.Delete{SPISize: 1, SPIs: make([][]byte, wire.MaxDeleteSPIs)}
	for i := range spis.SPIs {
		spis.SPIs[i] = []byte{byte(i)}
	}
	for name, items := range map[string][]wire.Item{
		"payloads": vendor, "attributes": {{Payload: cfg}}, "transforms": {{Payload: transforms}}, "spis": {{Payload: spis}},
	} {
		b := wire.AppendChain(nil, items)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, err := wire.ParseChain(wire.First(items), b, 0); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if got, most := (after.TotalAlloc-before.TotalAlloc)/runs, uint64(64*len(b)); got > most {
			t.Errorf("%s: %d octets of message cost %d octets of memory, want at most %d", name, len(b), got, most)
		}
	}
}

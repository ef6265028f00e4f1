package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// eachReserved visits the RESERVED octets and bits of a well-formed message, by a walk of its own through the figures of RFC 7296, so that it can
// be held against the parser.
func eachReserved(b []byte, visit func(i int, mask byte)) {
	next := iana.Payload(b[16])
	for at := wire.HeaderLen; next != iana.PayloadNone && at < len(b); {
		end := at + int(binary.BigEndian.Uint16(b[at+2:]))
		visit(at+1, 0x7f)
		reservedOfBody(next, b, at+4, end, visit)
		if next == iana.PayloadSK || next == iana.PayloadSKF {
			return
		}
		next, at = iana.Payload(b[at]), end
	}
}

func reservedOfBody(t iana.Payload, b []byte, at, end int, visit func(i int, mask byte)) {
	octets := func(from, n int) {
		for i := range n {
			visit(from+i, 0xff)
		}
	}
	switch t {
	case iana.PayloadKE:
		octets(at+2, 2)
	case iana.PayloadIDi, iana.PayloadIDr, iana.PayloadAUTH, iana.PayloadTSi, iana.PayloadTSr:
		octets(at+1, 3)
	case iana.PayloadCP:
		octets(at+1, 3)
		for at += 4; at < end; at += 4 + int(binary.BigEndian.Uint16(b[at+2:])) {
			visit(at, 0x80)
		}
	case iana.PayloadSA:
		for at < end {
			proposalEnd := at + int(binary.BigEndian.Uint16(b[at+2:]))
			octets(at+1, 1)
			for tr := at + 8 + int(b[at+6]); tr < proposalEnd; tr += int(binary.BigEndian.Uint16(b[tr+2:])) {
				octets(tr+1, 1)
				octets(tr+5, 1)
			}
			at = proposalEnd
		}
	}
}

// seeds are what our own encoder makes.
func seeds() []wire.Message {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	out := everything()
	for range 40 {
		out = append(out, g.message())
	}
	return out
}

func isSyntaxError(err error) bool {
	var s *wire.SyntaxError
	return errors.As(err, &s)
}

// FuzzParse: whatever is accepted appends to the same octets up to RESERVED, and parses to the same value again.
func FuzzParse(f *testing.F) {
	for _, m := range seeds() {
		f.Add(m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Most inputs would fail at the header's Length; that check has its own tests.
		if len(b) >= wire.HeaderLen {
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		}
		m, err := wire.Parse(b)
		if err != nil {
			if !isSyntaxError(err) {
				t.Fatalf("error %v is not a SyntaxError", err)
			}
			return
		}
		if m.Header.MajorVersion != 2 {
			return
		}
		out := m.AppendTo(nil)
		clean := bytes.Clone(b)
		eachReserved(clean, func(i int, mask byte) { clean[i] &^= mask })
		if !bytes.Equal(out, clean) {
			t.Fatalf("appended %x\nparsed   %x", out, clean)
		}
		again, err := wire.Parse(out)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("second time %+v, %v\nfirst time  %+v", again, err, m)
		}
	})
}

// FuzzParseChain: the same for what is found inside an opened SK payload.
func FuzzParseChain(f *testing.F) {
	for _, m := range seeds() {
		f.Add(byte(wire.First(m.Payloads)), wire.AppendChain(nil, m.Payloads))
	}
	f.Fuzz(func(t *testing.T, first byte, b []byte) {
		items, err := wire.ParseChain(iana.Payload(first), b, 100)
		if err != nil {
			var s *wire.SyntaxError
			if !errors.As(err, &s) || s.Off < 100 || s.Off > 100+len(b) {
				t.Fatalf("error %v is not a SyntaxError with an offset inside", err)
			}
			return
		}
		out := wire.AppendChain(nil, items)
		if len(out) != len(b) || len(out) != wire.ChainLen(items) {
			t.Fatalf("%d octets appended, %d parsed, ChainLen %d", len(out), len(b), wire.ChainLen(items))
		}
		again, err := wire.ParseChain(iana.Payload(first), out, 100)
		if err != nil || !reflect.DeepEqual(again, items) {
			t.Fatalf("second time %+v, %v\nfirst time  %+v", again, err, items)
		}
	})
}

// FuzzParseHeader: what is accepted appends to the same octets.
func FuzzParseHeader(f *testing.F) {
	for _, m := range seeds() {
		f.Add(m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wire.ParseHeader(b)
		if err != nil {
			if !isSyntaxError(err) {
				t.Fatalf("error %v is not a SyntaxError", err)
			}
			return
		}
		if out := h.AppendTo(nil); !bytes.Equal(out, b[:wire.HeaderLen]) {
			t.Fatalf("appended %x, parsed %x", out, b[:wire.HeaderLen])
		}
	})
}

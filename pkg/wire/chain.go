package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// critical is the C bit of the generic payload header (RFC 7296 3.2).
const critical = 0x80

// ParseChain reads a chain of payloads, as found inside an opened SK payload: it ends exactly with b, and holds no SK or SKF (RFC 7296
// 3.1). base is added to offsets in errors. The error is a *SyntaxError; with it come the payloads before the fault.
func ParseChain(first iana.Payload, b []byte, base int) ([]Item, error) {
	return parseChain(first, b, base, false)
}

func parseChain(first iana.Payload, b []byte, base int, outer bool) ([]Item, error) {
	c := &cursor{b: b, base: base}
	var items []Item
	for next := first; next != iana.PayloadNone; {
		c.payload = next
		start := c.off
		if len(items) == MaxPayloads {
			c.fail(start, "more than %d payloads", MaxPayloads)
			break
		}
		following := iana.Payload(c.u8("Next Payload"))
		flags := c.u8("the Critical bit")
		length := int(c.u16("Payload Length"))
		if c.err == nil && length < genericLen {
			c.fail(start+2, "Payload Length %d is shorter than the generic header", length)
		}
		body := c.sub(length-genericLen, "the body")
		sealed := next == iana.PayloadSK || next == iana.PayloadSKF
		if sealed && !outer {
			c.fail(start, "an encrypted payload inside another (RFC 7296 3.1)")
		}
		p := parseBody(next, following, body)
		if c.err != nil {
			break
		}
		items = append(items, Item{Payload: p, Critical: flags&critical != 0})
		if sealed {
			// Next Payload named the first payload inside; the chain ends here.
			break
		}
		next = following
	}
	c.end("the last payload")
	return items, c.err
}

// parseBody reads the body of one payload. inner is the Next Payload field, which belongs to the value of SK and SKF.
func parseBody(t, inner iana.Payload, c *cursor) Payload {
	switch t {
	case iana.PayloadSA:
		return parseSA(c)
	case iana.PayloadKE:
		return parseKE(c)
	case iana.PayloadIDi, iana.PayloadIDr:
		return parseID(t, c)
	case iana.PayloadCERT:
		return parseCert(c)
	case iana.PayloadCERTREQ:
		return parseCertReq(c)
	case iana.PayloadAUTH:
		return parseAuth(c)
	case iana.PayloadNonce:
		return parseNonce(c)
	case iana.PayloadNotify:
		return parseNotify(c)
	case iana.PayloadDelete:
		return parseDelete(c)
	case iana.PayloadVendorID:
		return VendorID{Data: c.rest()}
	case iana.PayloadTSi, iana.PayloadTSr:
		return parseTS(t, c)
	case iana.PayloadSK:
		return SK{Next: inner, Data: c.rest()}
	case iana.PayloadSKF:
		return parseSKF(inner, c)
	case iana.PayloadCP:
		return parseCP(c)
	case iana.PayloadEAP:
		return parseEAP(c)
	default:
		return Unknown{PayloadType: t, Data: c.rest()}
	}
}

// AppendChain appends payloads with their generic headers.
func AppendChain(b []byte, items []Item) []byte {
	for i, it := range items {
		var flags byte
		if it.Critical {
			flags = critical
		}
		b = append(b, byte(nextOf(items, i)), flags)
		b = binary.BigEndian.AppendUint16(b, uint16(genericLen+it.Len()))
		b = it.AppendTo(b)
	}
	return b
}

// nextOf is the Next Payload field of item i: the type of the item after it, or of the first payload inside SK and SKF.
func nextOf(items []Item, i int) iana.Payload {
	switch p := items[i].Payload.(type) {
	case SK:
		return p.Next
	case SKF:
		return p.Next
	}
	return First(items[i+1:])
}

// ChainLen is the size of AppendChain's output in octets.
func ChainLen(items []Item) int {
	n := 0
	for _, it := range items {
		n += genericLen + it.Len()
	}
	return n
}

// First is the type of the first payload, or PayloadNone.
func First(items []Item) iana.Payload {
	if len(items) == 0 {
		return iana.PayloadNone
	}
	return items[0].Type()
}

// Get returns the first payload of the concrete type T.
func Get[T Payload](items []Item) (T, bool) {
	for _, it := range items {
		if p, ok := it.Payload.(T); ok {
			return p, true
		}
	}
	var zero T
	return zero, false
}

// GetType returns the first payload of the concrete type T whose payload type is t: TSi apart from TSr, IDi apart from IDr.
func GetType[T Payload](items []Item, t iana.Payload) (T, bool) {
	for _, it := range items {
		if p, ok := it.Payload.(T); ok && p.Type() == t {
			return p, true
		}
	}
	var zero T
	return zero, false
}

// GetNotify returns the first Notify payload with that notify type.
func GetNotify(items []Item, n iana.Notify) (Notify, bool) {
	for _, it := range items {
		if p, ok := it.Payload.(Notify); ok && p.Notify == n {
			return p, true
		}
	}
	return Notify{}, false
}

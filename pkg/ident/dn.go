package ident

import (
	"bytes"
	"encoding/asn1"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A distinguished name is a sequence of RDNs, each a set of attributes, in DER (RFC 7296 3.5, RFC 5280 4.1.2.4).

// maxDN is the longest name, in octets, whose attributes are looked at; a longer one is compared octet by octet. Strangers send names, and each
// connection of a gateway compares them.
const maxDN = 4096

// attribute is a type with its value.
type attribute struct {
	oid   string // content of the OBJECT IDENTIFIER
	value asn1.RawValue
}

type rdn []attribute

// tagVisibleString is a tag of a string that the asn1 package does not name.
const tagVisibleString = 26

// readDN takes a name apart; ok is false for what is no name in DER, or a very long one.
func readDN(der string) (name []rdn, ok bool) {
	if len(der) > maxDN {
		return nil, false
	}
	outer, rest := tlv([]byte(der), asn1.TagSequence)
	if outer == nil || len(rest) > 0 {
		return nil, false
	}
	for left := outer.Bytes; len(left) > 0; {
		var set *asn1.RawValue
		if set, left = tlv(left, asn1.TagSet); set == nil || len(set.Bytes) == 0 {
			return nil, false
		}
		var r rdn
		for attributes := set.Bytes; len(attributes) > 0; {
			var pair *asn1.RawValue
			if pair, attributes = tlv(attributes, asn1.TagSequence); pair == nil {
				return nil, false
			}
			oid, value := tlv(pair.Bytes, asn1.TagOID)
			if oid == nil {
				return nil, false
			}
			a := attribute{oid: string(oid.Bytes)}
			if after, err := asn1.Unmarshal(value, &a.value); err != nil || len(after) > 0 {
				return nil, false
			}
			r = append(r, a)
		}
		name = append(name, r)
	}
	return name, true
}

// tlv reads one value that must have a universal tag; nil if there is none.
func tlv(der []byte, tag int) (v *asn1.RawValue, rest []byte) {
	v = &asn1.RawValue{}
	rest, err := asn1.Unmarshal(der, v)
	if err != nil || v.Class != asn1.ClassUniversal || v.Tag != tag || v.IsCompound != (tag != asn1.TagOID) {
		return nil, nil
	}
	return v, rest
}

// writeDN is the inverse of readDN. The attributes of a set are in the order of DER.
func writeDN(name []rdn) string {
	var sets []byte
	for _, r := range name {
		var pairs [][]byte
		for _, a := range r {
			pairs = append(pairs, element(asn1.TagSequence, true, slices.Concat(element(asn1.TagOID, false, []byte(a.oid)), a.value.FullBytes)))
		}
		slices.SortFunc(pairs, bytes.Compare)
		sets = append(sets, element(asn1.TagSet, true, slices.Concat(pairs...))...)
	}
	return string(element(asn1.TagSequence, true, sets))
}

// element encodes one value. Nothing here is too long for DER, the only error there could be.
func element(tag int, compound bool, content []byte) []byte {
	b, _ := asn1.Marshal(asn1.RawValue{Tag: tag, IsCompound: compound, Bytes: content})
	return b
}

// stringValue makes the value of an attribute; the type of string is the one that the attribute is defined with, or PrintableString where it can be that, or
// UTF8String (RFC 5280 4.1.2.4).
func stringValue(oid, text string) asn1.RawValue {
	tag := asn1.TagUTF8String
	switch {
	case (oid == oidEmail || oid == oidDC) && isASCII(text):
		tag = asn1.TagIA5String
	case strings.Trim(text, printableString) == "":
		tag = asn1.TagPrintableString
	}
	return asn1.RawValue{Tag: tag, Bytes: []byte(text), FullBytes: element(tag, false, []byte(text))}
}

const printableString = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '()+,-./:=?"

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// text is the value as UTF-8, if it is a string.
func (a attribute) text() (string, bool) {
	if a.value.Class != asn1.ClassUniversal || a.value.IsCompound {
		return "", false
	}
	b := a.value.Bytes
	switch a.value.Tag {
	case asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String, asn1.TagNumericString, tagVisibleString:
		return string(b), true
	case asn1.TagT61String: // what is written as T.61 is Latin 1
		var s strings.Builder
		for _, c := range b {
			s.WriteRune(rune(c))
		}
		return s.String(), true
	case asn1.TagBMPString:
		if len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// canonical makes equal what counts as equal: strings lose their type, the case of their ASCII letters, and blanks at the ends and in a row (RFC 5280 7.1, without
// the tables of RFC 4518 for other letters); any other value stays as it is.
func (a attribute) canonical() attribute {
	text, ok := a.text()
	if !ok {
		return a
	}
	text = lower(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " "))
	return attribute{oid: a.oid, value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text), FullBytes: element(asn1.TagUTF8String, false, []byte(text))}}
}

// canonicalDN is equal for two names that are the same, attribute by attribute in order (RFC 5280 7.1). What is no name in DER stays as it is.
func canonicalDN(der string) string {
	name, ok := readDN(der)
	if !ok {
		return der
	}
	return writeDN(canonicalRDNs(name))
}

func canonicalRDNs(name []rdn) []rdn {
	out := make([]rdn, len(name))
	for i, r := range name {
		for j := range r {
			out[i] = append(out[i], r[j].canonical())
		}
	}
	return out
}

// wildcard is the value that, in a pattern, fits any value of its attribute.
const wildcard = "*"

func (a attribute) wild() bool {
	text, ok := a.text()
	return ok && text == wildcard
}

// hasWildcard reports whether a name is a pattern for many.
func hasWildcard(der string) bool {
	name, _ := readDN(der)
	return slices.ContainsFunc(name, rdn.wild)
}

// matchDN compares a name with a pattern as libreswan does: as many RDNs, of the same types and values, but an RDN may stand in another place, and an
// attribute "*" of the pattern fits any value.
func matchDN(pattern, der string) bool {
	p, ok := readDN(pattern)
	n, okN := readDN(der)
	if !ok || !okN || len(p) != len(n) {
		return pattern == der
	}
	p, n = canonicalRDNs(p), canonicalRDNs(n)
	for _, wild := range []bool{false, true} { // wildcards last: they take what nobody else needs
		for _, r := range p {
			if r.wild() != wild {
				continue
			}
			at := slices.IndexFunc(n, r.fits)
			if at < 0 {
				return false
			}
			n = slices.Delete(n, at, at+1)
		}
	}
	return true
}

func (r rdn) wild() bool { return slices.ContainsFunc(r, attribute.wild) }

// fits compares a set of attributes, in canonical form, with a pattern's.
func (r rdn) fits(o rdn) bool {
	if len(r) != len(o) {
		return false
	}
	return !slices.ContainsFunc(r, func(a attribute) bool {
		return !slices.ContainsFunc(o, func(b attribute) bool {
			return a.oid == b.oid && (a.wild() || bytes.Equal(a.value.FullBytes, b.value.FullBytes))
		})
	})
}

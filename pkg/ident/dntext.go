package ident

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// attributeNames are the short names of attribute types as libreswan writes them, with what else they are called (RFC 4514 3, openssl). The first
// name of a type is the one printed.
var attributeNames = []struct{ name, oid string }{
	{"C", "2.5.4.6"},
	{"ST", "2.5.4.8"},
	{"L", "2.5.4.7"},
	{"O", "2.5.4.10"},
	{"OU", "2.5.4.11"},
	{"CN", "2.5.4.3"},
	{"E", "1.2.840.113549.1.9.1"},
	{"emailAddress", "1.2.840.113549.1.9.1"},
	{"Email", "1.2.840.113549.1.9.1"},
	{"DC", "0.9.2342.19200300.100.1.25"},
	{"UID", "0.9.2342.19200300.100.1.1"},
	{"SN", "2.5.4.5"},
	{"serialNumber", "2.5.4.5"},
	{"S", "2.5.4.4"},
	{"surname", "2.5.4.4"},
	{"G", "2.5.4.42"},
	{"GN", "2.5.4.42"},
	{"givenName", "2.5.4.42"},
	{"I", "2.5.4.43"},
	{"initials", "2.5.4.43"},
	{"T", "2.5.4.12"},
	{"title", "2.5.4.12"},
	{"D", "2.5.4.13"},
	{"description", "2.5.4.13"},
	{"N", "2.5.4.41"},
	{"name", "2.5.4.41"},
	{"STREET", "2.5.4.9"},
	{"postalCode", "2.5.4.17"},
	{"dnQualifier", "2.5.4.46"},
	{"generationQualifier", "2.5.4.44"},
	{"pseudonym", "2.5.4.65"},
	{"EN", "2.16.840.1.113730.3.1.3"},
	{"employeeNumber", "2.16.840.1.113730.3.1.3"},
	{"unstructuredName", "1.2.840.113549.1.9.2"},
	{"unstructuredAddress", "1.2.840.113549.1.9.8"},
	{"organizationIdentifier", "2.5.4.97"},
	{"countryName", "2.5.4.6"},
	{"stateOrProvinceName", "2.5.4.8"},
	{"localityName", "2.5.4.7"},
	{"organizationName", "2.5.4.10"},
	{"organizationalUnitName", "2.5.4.11"},
	{"commonName", "2.5.4.3"},
	{"domainComponent", "0.9.2342.19200300.100.1.25"},
}

// Types whose strings are IA5String.
var (
	oidEmail = ofTable("1.2.840.113549.1.9.1")
	oidDC    = ofTable("0.9.2342.19200300.100.1.25")
)

// The table from both ends: lower-case name to type, type to the name that is printed.
var typeByName, nameByType = func() (byName, byType map[string]string) {
	byName, byType = map[string]string{}, map[string]string{}
	for _, a := range attributeNames {
		oid := ofTable(a.oid)
		byName[lower(a.name)] = oid
		if byType[oid] == "" {
			byType[oid] = a.name
		}
	}
	return byName, byType
}()

// ofTable encodes a type of the table, all of which are good: TestDNTypes reads them.
func ofTable(dotted string) string {
	content, _ := oidContent(dotted)
	return content
}

// oidContent encodes numbers with dots; ok is false for what is no object identifier.
func oidContent(dotted string) (content string, ok bool) {
	oid, err := x509.ParseOID(dotted)
	if err != nil {
		return "", false
	}
	b, err := oid.MarshalBinary()
	return string(b), err == nil
}

// attributeType finds a type by name, without case, or as numbers with dots.
func attributeType(word string) (oid string, ok bool) {
	word = strings.TrimPrefix(lower(word), "oid.")
	if oid, ok := typeByName[word]; ok {
		return oid, true
	}
	return oidContent(word)
}

// parseDN reads a name in the order in which it is encoded, with the separators of libreswan and RFC 4514 ("C=CA, O=Example, CN=west") or openssl
// ("/C=CA/O=Example/CN=west"). A value may be in quotes; a backslash protects the next character, or stands before two hexadecimal digits; ",," is an old
// spelling of "\,"; "#" and hexadecimal digits are a value in DER. "+" joins attributes of one RDN.
func parseDN(s string) (ID, error) {
	p := dnParser{s: strings.TrimPrefix(strings.TrimLeft(s, " \t"), "@")}
	p.skip("/")
	var name []rdn
	for {
		a, err := p.attribute()
		if err != nil {
			return ID{}, err
		}
		if p.joined && len(name) > 0 {
			name[len(name)-1] = append(name[len(name)-1], a)
		} else {
			name = append(name, rdn{a})
		}
		if p.s == "" {
			break
		}
		p.joined = p.s[0] == '+'
		p.s = p.s[1:]
	}
	id := ID{Type: iana.ID_DER_ASN1_DN, Data: writeDN(name)}
	if len(id.Data) > maxDN {
		return ID{}, fmt.Errorf("the distinguished name is longer than %d octets", maxDN)
	}
	return id, nil
}

// dnParser holds what is left of the text.
type dnParser struct {
	s      string
	joined bool // the attribute belongs to the RDN before it
}

func (p *dnParser) skip(set string) { p.s = strings.TrimLeft(p.s, set+" \t") }

// attribute takes "CN=west" and stops before the separator.
func (p *dnParser) attribute() (attribute, error) {
	p.skip("")
	word, rest, ok := strings.Cut(p.s, "=")
	word = strings.TrimSpace(word)
	if !ok {
		return attribute{}, fmt.Errorf("in a distinguished name %s has no =; write TYPE=value, with \\, for a comma that belongs to a value", quote(word))
	}
	oid, known := attributeType(word)
	if !known {
		return attribute{}, fmt.Errorf("%s is no attribute of a distinguished name that is known; the usual ones are C, ST, L, O, OU, CN, E, DC, UID, others are written as "+
			"numbers with dots", quote(word))
	}
	p.s = rest
	p.skip("")
	value, der, err := p.value()
	switch {
	case err != nil:
		return attribute{}, fmt.Errorf("%s=: %w", word, err)
	case der:
		return rawAttribute(oid, value)
	case value == "":
		return attribute{}, fmt.Errorf("%s= has no value", word)
	}
	return attribute{oid: oid, value: stringValue(oid, value)}, nil
}

// rawAttribute takes a value in DER.
func rawAttribute(oid, digits string) (attribute, error) {
	der, err := hex.DecodeString(digits)
	a := attribute{oid: oid}
	if err == nil {
		var rest []byte
		if rest, err = asn1.Unmarshal(der, &a.value); err == nil && len(rest) > 0 {
			err = errors.New("more follows")
		}
	}
	if err != nil {
		return attribute{}, errors.New("what follows the # is not a value in DER in hexadecimal digits")
	}
	return a, nil
}

// value takes a value up to its separator. der says that it is the hexadecimal digits of one in DER.
func (p *dnParser) value() (text string, der bool, err error) {
	if rest, ok := strings.CutPrefix(p.s, `"`); ok {
		text, err = p.quoted(rest)
		return text, false, err
	}
	if rest, ok := strings.CutPrefix(p.s, "#"); ok {
		end := strings.IndexAny(rest+",", ",+/ \t")
		text, p.s = rest[:end], rest[end:]
		return text, true, p.end()
	}
	var b strings.Builder
	kept := 0 // blanks at the end belong to the value only if they were protected
	for p.s != "" && !p.separator() {
		c := p.s[0]
		switch {
		case c == '\\':
			c, p.s, err = unescape(p.s)
			if err != nil {
				return "", false, err
			}
			b.WriteByte(c)
			kept = b.Len()
			continue
		case strings.HasPrefix(p.s, ",,"):
			p.s = p.s[1:]
		}
		if c < ' ' && c != '\t' {
			return "", false, fmt.Errorf("character %q is not allowed", c)
		}
		b.WriteByte(c)
		if c != ' ' && c != '\t' {
			kept = b.Len()
		}
		p.s = p.s[1:]
	}
	return b.String()[:kept], false, nil
}

// separator reports whether the text goes on with the next attribute. A slash or a plus can belong to a value, so what follows decides.
func (p *dnParser) separator() bool {
	switch p.s[0] {
	case ',':
		return !strings.HasPrefix(p.s, ",,")
	case '/', '+':
		word, _, ok := strings.Cut(p.s[1:], "=")
		_, known := attributeType(strings.TrimSpace(word))
		return ok && known
	}
	return false
}

// quoted takes the rest of a value in quotes.
func (p *dnParser) quoted(rest string) (string, error) {
	var b strings.Builder
	for rest != "" && rest[0] != '"' {
		c := rest[0]
		if c == '\\' {
			var err error
			if c, rest, err = unescape(rest); err != nil {
				return "", err
			}
		} else {
			rest = rest[1:]
		}
		b.WriteByte(c)
	}
	if rest == "" {
		return "", errors.New("the quote is not closed")
	}
	p.s = rest[1:]
	return b.String(), p.end()
}

// end goes to the separator that must follow.
func (p *dnParser) end() error {
	p.skip("")
	if p.s != "" && !p.separator() {
		return errors.New("after the value a comma must follow")
	}
	return nil
}

// unescape takes a backslash and what it protects: two hexadecimal digits, or a character.
func unescape(s string) (c byte, rest string, err error) {
	if len(s) >= 3 {
		if b, err := hex.DecodeString(s[1:3]); err == nil {
			return b[0], s[3:], nil
		}
	}
	if len(s) < 2 {
		return 0, "", errors.New("nothing follows the backslash")
	}
	return s[1], s[2:], nil
}

// dnText prints a name as libreswan does, "C=CA, O=Example, CN=west"; ok is false for what is no name in DER. What could end a value or does not belong into a log is a
// backslash and two digits.
func dnText(der string) (text string, ok bool) {
	name, ok := readDN(der)
	if !ok || len(name) == 0 {
		return "", false
	}
	var b strings.Builder
	for i, r := range name {
		for j := range r {
			switch {
			case j > 0:
				b.WriteString(" + ")
			case i > 0:
				b.WriteString(", ")
			}
			b.WriteString(typeText(r[j].oid) + "=")
			if text, ok := r[j].text(); ok && text != "" {
				b.WriteString(valueText(text))
			} else {
				b.WriteString("#" + hex.EncodeToString(r[j].value.FullBytes))
			}
		}
	}
	return b.String(), true
}

func typeText(oid string) string {
	if name := nameByType[oid]; name != "" {
		return name
	}
	var v x509.OID
	if v.UnmarshalBinary([]byte(oid)) != nil {
		return "OID.#" + hex.EncodeToString([]byte(oid)) // which nothing reads
	}
	return v.String()
}

// valueText protects what does not belong into a log, and what would end or change the value when it is read. "=" among them keeps "/" and "+" harmless.
func valueText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		edge := i == 0 || i == len(s)-1
		switch {
		case c == ' ' && !edge, c == '(' || c == ')', !odd(c) && strings.IndexByte(",=;<>", c) < 0 && !(i == 0 && c == '#'):
			b.WriteByte(c)
		default:
			b.WriteString(`\` + hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

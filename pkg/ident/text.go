package ident

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// Words of ipsec.conf that stand for no particular identity.
const (
	anyWord      = "%any"
	fromCertWord = "%fromcert"
	noneWord     = "%none"
	nullWord     = "%null"
)

// maxPrinted is how many octets of an odd identity are printed: the longest FQDN has 253, and a peer may send 65,000.
const maxPrinted = 256

// maxPrintedDN is the same for a distinguished name.
const maxPrintedDN = 1024

// Parse reads an id as ipsec.conf writes it: an address, "@fqdn", "user@domain", "@#hex", "@[key id]", "@~hex" (a DN in DER), "%null". As in
// libreswan, anything with '=' is a DN. %fromcert, %any and %none are refused here, and so is a name that would have to be looked up.
func Parse(s string) (ID, error) {
	id, err := parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("id %s: %w", quote(s), err)
	}
	return id, nil
}

func parse(s string) (ID, error) {
	switch {
	case s == "":
		return ID{}, errors.New("empty")
	case s == nullWord:
		return ID{Type: iana.ID_NULL}, nil
	case s == fromCertWord || s == anyWord || s == noneWord:
		return ID{}, errors.New("stands for no particular identity; write one, such as @name")
	case strings.HasPrefix(s, "%"):
		return ID{}, errors.New("unknown word")
	case strings.Contains(s, "="):
		return parseDN(s)
	case !strings.Contains(s, "@"):
		return parseAddr(s)
	case strings.HasPrefix(s, "@#"):
		return parseHex(iana.ID_KEY_ID, s[2:])
	case strings.HasPrefix(s, "@~"):
		return parseHex(iana.ID_DER_ASN1_DN, s[2:])
	case strings.HasPrefix(s, "@["):
		return parseKeyID(strings.TrimSuffix(s[2:], "]"))
	}
	if at := firstOdd(s); at >= 0 {
		return ID{}, fmt.Errorf("character %q is not allowed in a name", s[at])
	}
	if name, isFQDN := strings.CutPrefix(s, "@"); isFQDN {
		if name == "" {
			return ID{}, errors.New("no name after the @")
		}
		return ID{Type: iana.ID_FQDN, Data: name}, nil
	}
	if strings.HasSuffix(s, "@") {
		return ID{}, errors.New("no domain after the @")
	}
	return ID{Type: iana.ID_RFC822_ADDR, Data: s}, nil
}

func parseAddr(s string) (ID, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return ID{}, errors.New("not an address; a name is written with @ in front of it")
	case a.Zone() != "":
		return ID{}, errors.New("an address with a zone is no identity")
	case a.IsUnspecified():
		return ID{}, errors.New("the unspecified address stands for no particular identity")
	}
	return FromAddr(a), nil
}

func parseHex(t iana.IDType, s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		return ID{}, errors.New("what follows is not an even number of hex digits")
	}
	return ID{Type: t, Data: string(b)}, nil
}

func parseKeyID(s string) (ID, error) {
	if s == "" {
		return ID{}, errors.New("empty key id")
	}
	return ID{Type: iana.ID_KEY_ID, Data: s}, nil
}

// ParsePattern reads an id that may also be "%any" or the unspecified address, which fit any identity.
func ParsePattern(s string) (Pattern, error) {
	if a, err := netip.ParseAddr(s); s == anyWord || err == nil && a.IsUnspecified() {
		return Pattern{Any: true}, nil
	}
	id, err := Parse(s)
	return Pattern{ID: id}, err
}

// String prints the identity as ipsec.conf writes it, e.g. "@west" or "192.1.2.45", if that is what Parse would read as this very
// identity. Anything else, which a peer may have sent to forge a log line or to look like another, is printed as its type with the octets
// escaped, and cut after 256: `ID_FQDN(west\x0a)`. The result holds no quote or control character, and a blank only in a DN. A DN loses the types of its
// strings: Parse reads one that is the Same.
func (id ID) String() string {
	if id.IsZero() {
		return "none"
	}
	if s, ok := id.plain(); ok {
		if back, err := parse(s); err == nil && (back == id || id.Type == iana.ID_DER_ASN1_DN && back.Same(id)) {
			return s
		}
	}
	data, cut := id.Data, ""
	if len(data) > maxPrinted {
		cut = fmt.Sprintf("...+%d", len(data)-maxPrinted)
		data = data[:maxPrinted]
	}
	return id.Type.String() + "(" + escape(data) + cut + ")"
}

// plain is the form of ipsec.conf where the octets are fit for it.
func (id ID) plain() (string, bool) {
	if len(id.Data) > maxPrinted && (id.Type != iana.ID_DER_ASN1_DN || len(id.Data) > maxPrintedDN) {
		return "", false
	}
	clean := firstOdd(id.Data) < 0
	switch id.Type {
	case iana.ID_IPV4_ADDR, iana.ID_IPV6_ADDR:
		a, ok := id.Addr()
		return a.String(), ok
	case iana.ID_FQDN:
		return "@" + id.Data, clean
	case iana.ID_RFC822_ADDR:
		return id.Data, clean
	case iana.ID_KEY_ID:
		if clean && !strings.HasSuffix(id.Data, "]") && !strings.Contains(id.Data, "=") {
			return "@[" + id.Data + "]", true
		}
		return "@#" + hex.EncodeToString([]byte(id.Data)), true
	case iana.ID_DER_ASN1_DN:
		if s, ok := dnText(id.Data); ok {
			return s, true
		}
		return "@~" + hex.EncodeToString([]byte(id.Data)), true
	case iana.ID_NULL:
		return nullWord, id.Data == ""
	}
	return "", false
}

// odd reports octets that do not go into a log as they are: all that is not printable ASCII, the blank, quotes, and what escaping uses.
func odd(c byte) bool { return c <= ' ' || c >= 0x7f || strings.IndexByte("\"'`\\()", c) >= 0 }

// firstOdd is the place of the first odd octet, -1 if there is none.
func firstOdd(s string) int {
	for i := range len(s) {
		if odd(s[i]) {
			return i
		}
	}
	return -1
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if odd(s[i]) {
			fmt.Fprintf(&b, "\\x%02x", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// quote is for the operator's own words in an error message.
func quote(s string) string {
	if len(s) > maxPrinted {
		s = s[:maxPrinted]
	}
	return fmt.Sprintf("%q", s)
}

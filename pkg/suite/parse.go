package suite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// Defaults, in order of preference. They are libreswan's without MODP8192, and with Curve25519 first: it is the cheapest and the hardest to
// implement wrongly.
var (
	defaultEncr = []Encr{
		{iana.ENCR_AES_GCM_16, 256},
		{iana.ENCR_AES_GCM_16, 128},
		{iana.ENCR_CHACHA20_POLY1305, 0},
		{iana.ENCR_AES_CBC, 256},
		{iana.ENCR_AES_CBC, 128},
	}
	defaultPRF   = []iana.PRF{iana.PRF_HMAC_SHA2_512, iana.PRF_HMAC_SHA2_256}
	defaultInteg = []iana.Integ{iana.AUTH_HMAC_SHA2_512_256, iana.AUTH_HMAC_SHA2_256_128}
	defaultKE    = []iana.KE{
		iana.KE_CURVE25519, iana.KE_ECP256, iana.KE_ECP384, iana.KE_ECP521,
		iana.KE_MODP4096, iana.KE_MODP3072, iana.KE_MODP2048,
	}
	defaultSN = []iana.SN{iana.SN_ESN, iana.SN_32}
)

// Caps on what a value may hold. A policy longer than this is a mistake, and an SA payload could not carry it.
const (
	maxValueLen     = 8192
	maxAlternatives = 64
)

// ParseIKE reads the value of ike= in libreswan's syntax: alternatives separated by commas, each ENC[-PRF][-INTEG][-KE] with lists joined
// by "+", then ";KE" or ";TYPE=LIST" with TYPE encrypt, prf, integ or ke. Names are read in any case. The empty string gives the defaults, and
// so does what an alternative leaves out; integrity then follows the PRFs. An alternative with both AEADs and others is split in two. The
// error is a *ParseError. strongSwan's spelling is read as well, see readListed.
func ParseIKE(s string) (Proposals, error) {
	return parseValue(s, alternative{protocol: iana.ProtoIKE})
}

// ParseESP reads the value of esp= in libreswan's syntax: alternatives separated by commas, each ENC[-INTEG][-KE], then ";KE" or ";TYPE=LIST"
// with TYPE encrypt, integ, ke or sn. The empty string gives the defaults, which hold no key exchange. sn is what esn= says, in order of
// preference; empty means both, ESN first. An alternative's own ";sn=" wins over it. The error is a *ParseError. strongSwan's spelling is
// read as well, see readListed.
func ParseESP(s string, sn []iana.SN) (Proposals, error) {
	if len(sn) == 0 {
		sn = defaultSN
	}
	return parseValue(s, alternative{protocol: iana.ProtoESP, sn: sn})
}

// parseValue reads a whole value; blank is an alternative in which nothing is given yet.
func parseValue(s string, blank alternative) (Proposals, error) {
	if len(s) > maxValueLen {
		return nil, &ParseError{Word: s[:16] + "...", Column: 1, Reason: fmt.Sprintf("begins a value of %d octets; at most %d are read", len(s), maxValueLen)}
	}
	// strongSwan's "!" (these and no others) says how proposals always work here.
	if trimmed := strings.TrimRight(s, " \t"); strings.HasSuffix(trimmed, "!") {
		s = trimmed[:len(trimmed)-1]
	}
	if strings.Trim(s, " \t") == "" {
		return blank.proposals()
	}
	parts := split(word{s, 1}, ",")
	if len(parts) > maxAlternatives {
		return nil, parts[maxAlternatives].errorf("is one alternative too many: at most %d are read", maxAlternatives)
	}
	var all Proposals
	for _, part := range parts {
		a := blank
		if err := a.parse(part); err != nil {
			return nil, err
		}
		p, err := a.proposals()
		if err != nil {
			return nil, err
		}
		all = append(all, p...)
	}
	return all, nil
}

// alternative is one alternative while it is read. A list that is empty was not given.
type alternative struct {
	protocol iana.Protocol
	encr     []Encr
	prf      []iana.PRF
	integ    []iana.Integ
	ke       []iana.KE
	sn       []iana.SN

	snGiven               bool
	derivedPRF            bool // the PRFs were taken from the integrity algorithms, as strongSwan does
	encrAt, integAt, keAt word // for messages
}

// parse reads ENC[-PRF][-INTEG][-KE][;KE][;TYPE=LIST]...
func (a *alternative) parse(w word) error {
	for i, part := range split(w, ";") {
		key, list, typed := cut(part)
		var err error
		switch {
		case typed:
			err = a.typed(key, list)
		case i == 0:
			err = a.dashed(part)
		default:
			err = a.readKE(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// typed reads TYPE=LIST.
func (a *alternative) typed(key, list word) error {
	switch strings.ToLower(key.text) {
	case "encrypt", "encr", "enc":
		return a.readEncr(list)
	case "prf":
		if a.protocol == iana.ProtoIKE {
			return a.readPRF(list)
		}
		return key.errorf("has no place in esp=: a Child SA takes the PRF of its IKE SA")
	case "integ":
		return a.readInteg(list)
	case "ke", "dh":
		return a.readKE(list)
	case "sn", "esn":
		if a.protocol == iana.ProtoESP {
			return a.readSN(list)
		}
		return key.errorf("has no place in ike=: an IKE SA has no extended sequence numbers")
	}
	if isAddKEName(key.text, "addke") {
		return a.noAddKE(key, list)
	}
	err := key.errorf("is not a transform type")
	err.Hint = "known are encrypt, integ, ke and, in ike=, prf, in esp=, sn"
	return err
}

// dashed reads ENC[-PRF][-INTEG][-KE]. Which list a word belongs to follows from its name; a hash is a PRF first and then integrity. So the old
// order ENC-INTEG-PRF is understood where the names tell them apart.
func (a *alternative) dashed(w word) error {
	parts := split(w, "-")
	if isListed(parts) {
		return a.readListed(parts)
	}
	if err := a.readEncr(parts[0]); err != nil {
		return err
	}
	for _, part := range parts[1:] {
		if err := a.place(part); err != nil {
			return err
		}
	}
	return nil
}

// place finds out what a list is by its first name other than NONE.
func (a *alternative) place(list word) error {
	var first word
	for _, first = range split(list, "+") {
		if n, ok := integs.byName(first.text); !ok || n.id != uint16(iana.AUTH_NONE) {
			break
		}
	}
	_, isPRF := prfs.byName(first.text)
	integ, isInteg := integs.byName(first.text)
	ke, isKE := kes.byName(first.text)
	switch {
	case isKE && ke.id != uint16(iana.KE_NONE):
		return a.readKE(list)
	case len(a.ke) > 0 && (isPRF || isInteg):
		return first.errorf("stands after the key exchange; the order is %s", a.order())
	case isInteg && integ.id == uint16(iana.AUTH_NONE): // nothing but NONE
		if len(a.integ) > 0 && a.protocol == iana.ProtoESP {
			return a.readKE(list)
		}
		return a.readInteg(list)
	case isKE: // modpnone
		return a.readKE(list)
	case isPRF && a.protocol == iana.ProtoIKE && len(a.prf) == 0:
		return a.readPRF(list)
	case isInteg:
		return a.readInteg(list)
	case isPRF:
		return first.errorf("is a second PRF; alternatives to a PRF are joined by \"+\", and the order is %s", a.order())
	}
	if a.protocol == iana.ProtoIKE {
		return first.unknown("PRF, integrity algorithm or key exchange", prfs, integs, kes)
	}
	return first.unknown("integrity algorithm or key exchange", integs, kes)
}

func (a *alternative) order() string {
	if a.protocol == iana.ProtoIKE {
		return "ENCRYPTION-PRF-INTEGRITY-KEYEXCHANGE"
	}
	return "ENCRYPTION-INTEGRITY-KEYEXCHANGE"
}

func (a *alternative) readEncr(list word) error {
	if len(a.encr) > 0 {
		return list.errorf("is a second list of encryption algorithms")
	}
	a.encrAt = list
	for _, w := range split(list, "+") {
		found, err := w.encr()
		if err != nil {
			return err
		}
		for _, e := range found {
			a.encr = appendNew(a.encr, e)
		}
	}
	return nil
}

// noAddKE reads the value of addkeN= (RFC 9370): NONE is fine, anything else is not implemented. key is the word that a message names.
func (a *alternative) noAddKE(key, list word) error {
	for _, w := range split(list, "+") {
		ke, ok := kes.byName(w.text)
		switch {
		case !ok:
			return w.unknown("key exchange", kes)
		case ke.id != uint16(iana.KE_NONE):
			err := key.errorf("is an additional key exchange (RFC 9370), which is not implemented in this version of ikegod")
			err.lacking, err.Hint = true, "leave it out"
			return err
		}
	}
	return nil
}

// isAddKEName reports whether name is prefix and a digit from 1 to 7.
func isAddKEName(name, prefix string) bool {
	n, ok := strings.CutPrefix(strings.ToLower(name), prefix)
	return ok && len(n) == 1 && n[0] >= '1' && n[0] <= '7'
}

func (a *alternative) readPRF(list word) error {
	return readList(list, &a.prf, "PRF", prfs)
}

func (a *alternative) readInteg(list word) error {
	a.integAt = list
	return readList(list, &a.integ, "integrity algorithm", integs)
}

func (a *alternative) readKE(list word) error {
	a.keAt = list
	return readList(list, &a.ke, "key exchange", kes)
}

func (a *alternative) readSN(list word) error {
	if a.snGiven {
		return list.errorf("is a second list of sequence numbers")
	}
	a.snGiven, a.sn = true, nil
	return readList(list, &a.sn, "kind of sequence numbers", sns)
}

// readList reads NAME+NAME... of one table.
func readList[T ~uint16](list word, into *[]T, what string, t table) error {
	if len(*into) > 0 {
		return list.errorf("is a second %s list; alternatives are joined by \"+\"", what)
	}
	return addNames(list, into, what, t)
}

// addNames appends NAME+NAME... of one table.
func addNames[T ~uint16](list word, into *[]T, what string, t table) error {
	for _, w := range split(list, "+") {
		alg, ok := t.byName(w.text)
		switch {
		case !ok:
			return w.unknown(what, t)
		case !alg.supported:
			return w.unsupported(alg, what, t)
		}
		*into = appendNew(*into, T(alg.id))
	}
	return nil
}

// appendNew appends what is not there yet: a name that comes again adds nothing.
func appendNew[T comparable](s []T, v T) []T {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}

// proposals fills in the defaults and splits AEADs from others, whichever the alternative named first going first (RFC 7296 3.3).
func (a *alternative) proposals() ([]Proposal, error) {
	encr := a.encr
	if len(encr) == 0 {
		encr = defaultEncr
	}
	var aead, other []Encr
	for _, e := range encr {
		if e.AEAD() {
			aead = append(aead, e)
		} else {
			other = append(other, e)
		}
	}
	integ, err := a.integrity(len(other) > 0)
	if err != nil {
		return nil, err
	}
	if a.protocol == iana.ProtoIKE && slices.Contains(a.ke, iana.KE_NONE) {
		return nil, a.keAt.errorf("names NONE: an IKE SA cannot do without a key exchange")
	}
	var p []Proposal
	if len(aead) > 0 {
		p = append(p, a.proposal(aead, nil))
	}
	if len(other) > 0 {
		p = append(p, a.proposal(other, integ))
	}
	if len(p) == 2 && !encr[0].AEAD() {
		p[0], p[1] = p[1], p[0]
	}
	return p, nil
}

// integrity is the list for the algorithms that are no AEADs; others says whether there are any.
func (a *alternative) integrity(others bool) ([]iana.Integ, error) {
	named := slices.DeleteFunc(slices.Clone(a.integ), func(id iana.Integ) bool { return id == iana.AUTH_NONE })
	switch {
	case len(named) > 0 && !others && a.derivedPRF:
		return nil, nil
	case len(named) > 0 && !others:
		err := a.integAt.errorf("is an integrity algorithm, but %s authenticates by itself", a.encrAt.text)
		err.Hint = "leave it out"
		return nil, err
	case len(named) > 0:
		return named, nil
	case len(a.integ) > 0 && others:
		return nil, a.integAt.errorf("leaves %s without integrity protection, which is refused", a.encrAt.text)
	case len(a.prf) == 0:
		return defaultInteg, nil
	}
	for _, prf := range a.prf {
		named = append(named, integOfPRF[prf])
	}
	return named, nil
}

// integOfPRF is the integrity algorithm with the same hash.
var integOfPRF = map[iana.PRF]iana.Integ{
	iana.PRF_HMAC_SHA2_256: iana.AUTH_HMAC_SHA2_256_128,
	iana.PRF_HMAC_SHA2_384: iana.AUTH_HMAC_SHA2_384_192,
	iana.PRF_HMAC_SHA2_512: iana.AUTH_HMAC_SHA2_512_256,
	iana.PRF_HMAC_SHA1:     iana.AUTH_HMAC_SHA1_96,
}

// proposal makes one proposal with lists of its own.
func (a *alternative) proposal(encr []Encr, integ []iana.Integ) Proposal {
	p := Proposal{Encr: slices.Clone(encr), PRF: slices.Clone(a.prf), Integ: slices.Clone(integ), KE: slices.Clone(a.ke), SN: slices.Clone(a.sn)}
	if a.protocol == iana.ProtoIKE {
		if len(p.PRF) == 0 {
			p.PRF = slices.Clone(defaultPRF)
		}
		if len(p.KE) == 0 {
			p.KE = slices.Clone(defaultKE)
		}
	}
	return p
}

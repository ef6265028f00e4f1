package suite

import (
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// isListed reports whether an alternative is spelled strongSwan's way, in which every name is a word of its own and names of one type follow each
// other: a PRF has its prefix prf, esn or keN_ occurs, or there is a second encryption algorithm or key exchange behind a dash. None of
// these has a meaning in libreswan's spelling.
func isListed(parts []word) bool {
	encr, ke := 0, 0
	for _, part := range parts {
		name := strings.ToLower(part.text)
		if strings.Contains(name, "+") {
			return false
		}
		if _, ok := addKEWord(part); ok || strings.HasPrefix(name, "prf") || name == "esn" || name == "noesn" {
			return true
		}
		if _, isInteg := integs.byName(name); isInteg {
			continue
		}
		if _, _, ok := findEncr(name); ok {
			encr++
		}
		if _, ok := kes.byName(name); ok {
			ke++
		}
	}
	return encr > 1 || ke > 1
}

// readListed reads strongSwan's spelling: words joined by dashes, each put where its name belongs. A hash is an integrity algorithm and, where
// no PRF is named, the PRF as well; beside AEADs it is only that.
func (a *alternative) readListed(parts []word) error {
	if err := a.readEncr(parts[0]); err != nil {
		return err
	}
	for _, w := range parts[1:] {
		if err := a.readWord(w); err != nil {
			return err
		}
	}
	if a.protocol == iana.ProtoESP || len(a.prf) > 0 {
		return nil
	}
	for _, integ := range a.integ {
		if prf, ok := prfOfInteg(integ); ok {
			a.prf = appendNew(a.prf, prf)
			a.derivedPRF = true
		}
	}
	return nil
}

// readWord reads one word of strongSwan's spelling.
func (a *alternative) readWord(w word) error {
	name := strings.ToLower(w.text)
	if ke, ok := addKEWord(w); ok {
		return a.noAddKE(w, ke)
	}
	if strings.HasPrefix(name, "prf") {
		if a.protocol == iana.ProtoESP {
			return w.errorf("has no place in esp=: a Child SA takes the PRF of its IKE SA")
		}
		return addNames(w, &a.prf, "PRF", prfs)
	}
	if _, ok := kes.byName(name); ok {
		a.keAt = w
		return addNames(w, &a.ke, "key exchange", kes)
	}
	if _, ok := integs.byName(name); ok {
		a.integAt = w
		return addNames(w, &a.integ, "integrity algorithm", integs)
	}
	if name == "esn" || name == "noesn" {
		if a.protocol == iana.ProtoIKE {
			return w.errorf("has no place in ike=: an IKE SA has no extended sequence numbers")
		}
		if !a.snGiven {
			a.snGiven, a.sn = true, nil
		}
		return addNames(w, &a.sn, "kind of sequence numbers", sns)
	}
	if _, _, ok := findEncr(name); ok {
		found, err := w.encr()
		if err != nil {
			return err
		}
		for _, e := range found {
			a.encr = appendNew(a.encr, e)
		}
		return nil
	}
	return w.unknown("encryption algorithm, PRF, integrity algorithm or key exchange", encrs, prfs, integs, kes)
}

// addKEWord is the method in strongSwan's name of an additional key exchange, e.g. mlkem768 in ke1_mlkem768.
func addKEWord(w word) (word, bool) {
	before, after, ok := strings.Cut(w.text, "_")
	if !ok || !isAddKEName(before, "ke") {
		return w, false
	}
	return word{after, w.column + len(before) + 1}, true
}

// prfOfInteg is the PRF with the same hash.
func prfOfInteg(integ iana.Integ) (iana.PRF, bool) {
	for prf, i := range integOfPRF {
		if i == integ {
			return prf, true
		}
	}
	return 0, false
}

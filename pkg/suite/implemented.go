package suite

import "github.com/ikegod/ikegod/pkg/iana"

// Algorithms is a list of each transform type.
type Algorithms struct {
	Encr  []Encr // with each key length
	PRF   []iana.PRF
	Integ []iana.Integ
	KE    []iana.KE
}

// Implemented is all that this package implements, in the order of its tables, without NONE: what a test of every algorithm goes through.
func Implemented() (all Algorithms) {
	for _, a := range encrs {
		for _, bits := range a.keyLengths() {
			if a.supported {
				all.Encr = append(all.Encr, a.encr(bits))
			}
		}
	}
	for _, a := range prfs {
		if a.supported {
			all.PRF = append(all.PRF, iana.PRF(a.id))
		}
	}
	for _, a := range integs {
		if a.supported && a.id != uint16(iana.AUTH_NONE) {
			all.Integ = append(all.Integ, iana.Integ(a.id))
		}
	}
	for _, a := range kes {
		if a.supported && a.id != uint16(iana.KE_NONE) {
			all.KE = append(all.KE, iana.KE(a.id))
		}
	}
	return all
}

// keyLengths is the key lengths of a cipher; zero where there is one length, which is never sent.
func (a *algorithm) keyLengths() []uint16 {
	if len(a.keyBits) == 0 {
		return []uint16{0}
	}
	return a.keyBits
}

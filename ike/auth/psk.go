package auth

import (
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
)

// keyPad is the 17 octets of RFC 7296 2.15.
const keyPad = "Key Pad for IKEv2"

// sign makes AUTH data.
func (s *Store) sign(job *machine.AuthJob) ([]byte, error) {
	data, secret, err := s.sharedKeyMIC(job)
	if err == nil {
		job.Used = secret.Position
	}
	return data, err
}

// verify checks AUTH data in constant time.
func (s *Store) verify(job *machine.AuthJob) error {
	want, secret, err := s.sharedKeyMIC(job)
	if err != nil {
		return err
	}
	if len(job.Data) != len(want) {
		return fmt.Errorf("%w: the AUTH data of %v has %d octets, expected %d", ErrNotAuthentic, job.Remote, len(job.Data), len(want))
	}
	if subtle.ConstantTimeCompare(job.Data, want) != 1 {
		return fmt.Errorf("%w: the pre-shared keys of %v (us, %s) and %v (the peer) differ; write the same secret on both sides%s",
			ErrNotAuthentic, us(job), where(secret), job.Remote, s.alternatives(job))
	}
	return nil
}

// sharedKeyMIC computes AUTH = prf(prf(secret, "Key Pad for IKEv2"), octets) (RFC 7296 2.15) and says with which record.
func (s *Store) sharedKeyMIC(job *machine.AuthJob) ([]byte, *Secret, error) {
	if job.Method != iana.AuthSharedKey {
		return nil, nil, fmt.Errorf("%w: %v for us (%v) and the peer (%v); only a pre-shared key (authby=secret) is", ErrMethod, job.Method, us(job), peer(job))
	}
	secret, ok := s.find(job.Local, job.Remote)
	if !ok {
		return nil, nil, s.missing(job)
	}
	if len(secret.Key) == 0 {
		return nil, nil, fmt.Errorf("%w for %v (us) and %v (the peer): the record %s is empty", ErrNoSecret, us(job), peer(job), where(secret))
	}
	if suite.PRFLen(job.PRF) == 0 {
		return nil, nil, fmt.Errorf("%v is not implemented, so AUTH data cannot be computed", job.PRF)
	}
	padded := suite.Prf(job.PRF, secret.Key, []byte(keyPad))
	return suite.Prf(job.PRF, padded, job.Octets), secret, nil
}

// alternatives names the records that would have fitted too: the right secret may stand in one of them, behind the one that was used.
func (s *Store) alternatives(job *machine.AuthJob) string {
	found := s.matches(job.Local, job.Remote)
	if len(found) < 2 {
		return ""
	}
	return fmt.Sprintf("; the record was chosen because it %s, before %s", found[0].why, strings.Join(s.others(found), ", "))
}

// missing is the error when no record fits.
func (s *Store) missing(job *machine.AuthJob) error {
	return fmt.Errorf("%w for %v (us) and %v (the peer): %s", ErrNoSecret, us(job), peer(job), s.lacking(job.Local, job.Remote))
}

// lacking says why no record fits: what came near, and the line to write.
func (s *Store) lacking(local, remote ident.ID) string {
	reason := fmt.Sprintf("none of the %d PSK records of ipsec.secrets fits", len(s.secrets))
	if len(s.secrets) == 0 {
		reason = "ipsec.secrets has no PSK record"
	}
	return fmt.Sprintf("%s%s; add the line: %v %v : PSK \"...\"", reason, s.near(local, remote), quotedID(local), quotedID(remote))
}

// maxNear is how many records that come near are named.
const maxNear = 4

// near names the records with one of the identities only, which do not count, those of the peer first: with the operator's intention in sight the message can be
// exact.
func (s *Store) near(local, remote ident.ID) string {
	var list []string
	seen := map[int]bool{}
	for _, pair := range [][2]ident.ID{{remote, local}, {local, remote}} {
		for _, n := range s.naming[pair[0].Canonical()] {
			if pair[0].IsZero() || seen[n] {
				continue
			}
			if seen[n] = true; len(list) == maxNear {
				return " (" + strings.Join(list, "; ") + "; and more)"
			}
			list = append(list, fmt.Sprintf("the record %s names %v but not %v", where(&s.secrets[n]), orAny(pair[0]), orAny(pair[1])))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, "; ") + ")"
}

func us(job *machine.AuthJob) string   { return orAny(job.Local) }
func peer(job *machine.AuthJob) string { return orAny(job.Remote) }

// orAny prints an identity that is not known as the word that stands for it in ipsec.secrets.
func orAny(id ident.ID) string {
	if id.IsZero() {
		return "%any"
	}
	return id.String()
}

// quotedID prints an identity as ipsec.secrets wants it: a DN has blanks, so it goes into quotes.
func quotedID(id ident.ID) string {
	s := orAny(id)
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

func where(s *Secret) string {
	if s.Position == "" {
		return "without a position"
	}
	return "at " + s.Position
}

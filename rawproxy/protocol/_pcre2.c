/* The engine of `regex.py` in the compiled build: PCRE2 with its just-in-time compiler.

       compile(pattern, kinds=b"") → Pattern    .facts(data, at=0) → tuple or None
                                                .findall(data), .jit
       VERSION                                  of the library, as "10.42"

   `facts` tells where the match ends, and then of each group what its letter in `kinds` says:

       b   its bytes; None: it is not set     s   where it starts; -1: it is not set
       n   the number that its digits are;    e   where it ends; the same
           -1: it is not set

   `findall` means the same as that of the module `re`, for bytes. It knows no pattern of its own.
   Invariants: a match reads the bytes that it was given and no others, and never changes them; a
   pattern keeps one set of offsets, which is safe as the interpreter's lock is held, and nothing of
   Python's runs, from the start of a match to the copy of its offsets.

   Errors: `ValueError` for a pattern that PCRE2 refuses, with the place, and for what is no number;
   `TypeError` for arguments that are none. A match that PCRE2 gives up (its stack or its count of
   steps is used up) is no match: whoever asks has a slower way for all that is not one. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Of the compiled code's stack: grown only by patterns that have ways back to remember. */
#define STACK_FIRST (32 * 1024)
#define STACK_MOST (512 * 1024)
#define GROUPS_MOST 31
#define DIGITS_MOST 18 /* of a number: below 2**63 */

typedef struct {
    PyTypeObject *pattern;
} State;

typedef int Run(const pcre2_code *, PCRE2_SPTR, PCRE2_SIZE, PCRE2_SIZE, uint32_t,
                pcre2_match_data *, pcre2_match_context *);

typedef struct {
    PyObject_HEAD
    Run *run; /* the quicker one does not check what is always so here */
    pcre2_code *code;
    pcre2_match_data *data; /* where each match leaves its offsets */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    Py_ssize_t groups;
    char kinds[GROUPS_MOST + 1]; /* a letter for each group; empty: none were given */
} Pattern;

/* Where the whole and each group begin and end. */
typedef PCRE2_SIZE Offsets[2 * (GROUPS_MOST + 1)];

static void pattern_dealloc(Pattern *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pcre2_match_data_free(self->data); /* each of them takes NULL */
    pcre2_match_context_free(self->context);
    pcre2_jit_stack_free(self->stack);
    pcre2_code_free(self->code);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The next match of `subject`, which is bytes; 0: there is none. */
static int next_match(Pattern *self, PyObject *subject, Py_ssize_t at, Offsets offsets)
{
    if (self->run(self->code, (PCRE2_SPTR)PyBytes_AS_STRING(subject),
                  (PCRE2_SIZE)PyBytes_GET_SIZE(subject), (PCRE2_SIZE)at, 0, self->data,
                  self->context) <= 0)
        return 0;
    memcpy(offsets, pcre2_get_ovector_pointer(self->data),
           2 * (size_t)(self->groups + 1) * sizeof(PCRE2_SIZE));
    return 1;
}

/* The number that digits are. */
static PyObject *number(const char *digit, const char *end)
{
    long long value = 0;
    if (end - digit > DIGITS_MOST) {
        PyErr_SetString(PyExc_ValueError, "a number of too many digits");
        return NULL;
    }
    for (; digit < end; digit++) {
        if (*digit < '0' || *digit > '9') {
            PyErr_SetString(PyExc_ValueError, "a number has only digits");
            return NULL;
        }
        value = value * 10 + (*digit - '0');
    }
    return PyLong_FromLongLong(value);
}

/* What `kind` says of a group; `otherwise` (borrowed) for the bytes of one that is not set. */
static PyObject *fact(char kind, const char *bytes, const PCRE2_SIZE *pair, PyObject *otherwise)
{
    int unset = pair[0] == PCRE2_UNSET;
    if (kind == 'b')
        return unset ? Py_NewRef(otherwise)
                     : PyBytes_FromStringAndSize(bytes + pair[0], (Py_ssize_t)(pair[1] - pair[0]));
    if (kind == 'n' && !unset)
        return number(bytes + pair[0], bytes + pair[1]);
    return PyLong_FromSsize_t(unset ? -1 : (Py_ssize_t)pair[kind == 'e']);
}

static PyObject *pattern_facts(Pattern *self, PyObject *const *args, Py_ssize_t count)
{
    Offsets offsets;
    if (count < 1 || count > 2 || !PyBytes_Check(args[0]) || (self->groups && !self->kinds[0])) {
        PyErr_SetString(PyExc_TypeError, "bytes and a place in them, of a pattern with kinds");
        return NULL;
    }
    Py_ssize_t at = count == 1 ? 0 : PyLong_AsSsize_t(args[1]);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (at < 0 || at > PyBytes_GET_SIZE(args[0]) || !next_match(self, args[0], at, offsets))
        Py_RETURN_NONE;
    PyObject *found = PyTuple_New(self->groups + 1);
    for (Py_ssize_t group = 0; found != NULL && group <= self->groups; group++) {
        PyObject *one = fact(group ? self->kinds[group - 1] : 'e', PyBytes_AS_STRING(args[0]),
                             offsets + 2 * group, Py_None);
        if (one == NULL)
            Py_CLEAR(found);
        else
            PyTuple_SET_ITEM(found, group, one);
    }
    return found;
}

static PyObject *groups_of(Pattern *self, const char *bytes, Offsets offsets, PyObject *unset)
{
    PyObject *found = PyTuple_New(self->groups);
    for (Py_ssize_t group = 0; found != NULL && group < self->groups; group++) {
        PyObject *one = fact('b', bytes, offsets + 2 * (group + 1), unset);
        if (one == NULL)
            Py_CLEAR(found);
        else
            PyTuple_SET_ITEM(found, group, one);
    }
    return found;
}

static PyObject *pattern_findall(Pattern *self, PyObject *subject)
{
    uint32_t empty = 0;
    Offsets offsets;
    pcre2_pattern_info(self->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty || self->groups < 2) {
        PyErr_SetString(PyExc_ValueError, "only of several groups, and not of nothing");
        return NULL;
    }
    if (!PyBytes_Check(subject)) {
        PyErr_Format(PyExc_TypeError, "bytes are matched, not %s", Py_TYPE(subject)->tp_name);
        return NULL;
    }
    PyObject *all = PyList_New(0);
    PyObject *unset = all == NULL ? NULL : PyBytes_FromStringAndSize("", 0);
    for (Py_ssize_t at = 0; unset != NULL && next_match(self, subject, at, offsets);) {
        at = (Py_ssize_t)offsets[1];
        PyObject *groups = groups_of(self, PyBytes_AS_STRING(subject), offsets, unset);
        int failed = groups == NULL || PyList_Append(all, groups) < 0;
        Py_XDECREF(groups);
        if (failed)
            break;
    }
    Py_XDECREF(unset);
    if (PyErr_Occurred())
        Py_CLEAR(all);
    return all;
}

static PyObject *pattern_jit(Pattern *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->run == pcre2_jit_match);
}

static PyMethodDef pattern_methods[] = {
    {"facts", (PyCFunction)(void (*)(void))pattern_facts, METH_FASTCALL, "Of each group its kind."},
    {"findall", (PyCFunction)pattern_findall, METH_O, "The groups of every match."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pattern_getset[] = {
    {"jit", (getter)pattern_jit, NULL, "Whether it has become machine code.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pattern_slots[] = {
    {Py_tp_dealloc, pattern_dealloc},
    {Py_tp_methods, pattern_methods},
    {Py_tp_getset, pattern_getset},
    {Py_tp_doc, "A compiled pattern."},
    {0, NULL},
};

static PyType_Spec pattern_spec = {
    .name = "rawproxy.protocol._pcre2.Pattern",
    .basicsize = sizeof(Pattern),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pattern_slots,
};

/* ── the module ──────────────────────────────────────────────────────────────────────────────── */

static pcre2_code *code_of(const char *text, Py_ssize_t size)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* as `re`, whatever the library was built with */
    int error;
    PCRE2_SIZE place;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)size, 0, &error, &place, context);
    pcre2_compile_context_free(context);
    if (code == NULL) {
        PCRE2_UCHAR reason[256] = "";
        pcre2_get_error_message(error, reason, sizeof(reason));
        PyErr_Format(PyExc_ValueError, "%s at position %zu of the pattern", (char *)reason, place);
    }
    return code;
}

/* The letters of `kinds` for so many groups; 0 and an exception where they are others. */
static int put_kinds(Pattern *made, uint32_t groups, PyObject *kinds)
{
    Py_ssize_t size = kinds == NULL ? 0 : PyBytes_GET_SIZE(kinds);
    int known = size == 0 || strspn(PyBytes_AS_STRING(kinds), "bnse") == (size_t)groups;
    if (groups > GROUPS_MOST || !known || (size && (uint32_t)size != groups)) {
        PyErr_Format(PyExc_ValueError, "%u groups: %d at most, each with a kind or none with one",
                     groups, GROUPS_MOST);
        return 0;
    }
    memset(made->kinds, 0, sizeof(made->kinds));
    if (size)
        memcpy(made->kinds, PyBytes_AS_STRING(kinds), (size_t)size);
    made->groups = (Py_ssize_t)groups;
    return 1;
}

static PyObject *compile(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = PyModule_GetState(module);
    if (count < 1 || count > 2 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[count - 1])) {
        PyErr_SetString(PyExc_TypeError, "a pattern is bytes, and so are the kinds of its groups");
        return NULL;
    }
    PyObject *text = args[0];
    Pattern *made = PyObject_New(Pattern, state->pattern);
    if (made == NULL)
        return NULL;
    made->data = NULL;
    made->context = NULL;
    made->stack = NULL;
    made->run = pcre2_match;
    made->code = code_of(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text));
    if (made->code == NULL)
        goto failed;
    uint32_t groups = 0;
    pcre2_pattern_info(made->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (!put_kinds(made, groups, count == 2 ? args[1] : NULL))
        goto failed;
    made->data = pcre2_match_data_create_from_pattern(made->code, NULL);
    made->context = pcre2_match_context_create(NULL);
    made->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL);
    if (made->data == NULL || made->context == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    /* Where memory may not become code, PCRE2 interprets the pattern: slower, the same answers. */
    if (made->stack != NULL && pcre2_jit_compile(made->code, PCRE2_JIT_COMPLETE) == 0) {
        pcre2_jit_stack_assign(made->context, NULL, made->stack);
        made->run = pcre2_jit_match;
    }
    return (PyObject *)made;
failed:
    Py_DECREF(made);
    return NULL;
}

static int fill(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->pattern = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pattern_spec, NULL);
    if (state->pattern == NULL)
        return -1;
    char version[64] = ""; /* PCRE2_CONFIG_VERSION: 24 suffice */
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    char *date = strchr(version, ' ');
    if (date != NULL)
        *date = '\0';
    return PyModule_AddStringConstant(module, "VERSION", version);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->pattern);
    return 0;
}

static int clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->pattern);
    return 0;
}

static PyMethodDef functions[] = {
    {"compile", (PyCFunction)(void (*)(void))compile, METH_FASTCALL, "A pattern, or ValueError."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_pcre2",
    .m_doc = "PCRE2, as far as regex.py needs it.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__pcre2(void)
{
    return PyModuleDef_Init(&definition);
}

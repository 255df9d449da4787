//! Where records and their index live.

use crate::config::leaf::choice;
use crate::config::secret::Secret;
use crate::config::section::section;
use std::path::PathBuf;

choice! {
    /// What kind of store.
    StoreProvider {
        /// A registry or an image-layout directory.
        Oci = "oci",
        /// In memory, gone with the process.
        Memory = "memory",
    }
}

choice! {
    /// How records are spread over repositories.
    LayoutChoice {
        /// What the registry says of itself.
        Auto = "auto",
        /// One repository for each of 4,096 parts of the digest space.
        Sharded = "sharded",
        /// One repository.
        Single = "single",
    }
}

section! {
    /// Where records live.
    Store {
        /// Kind of store.
        provider: StoreProvider = "oci",
        /// Registry or directory.
        oci: Oci,
        /// Carried by existing files.
        verification: StoreVerification,
    }
}

section! {
    /// Registry or image-layout directory. With neither address nor directory: a directory in `<home>/.dir/store`.
    Oci {
        /// Image-layout directory; wins over a registry.
        local_dir: PathBuf = "",
        /// Directory of the content cache in front of a registry.
        cache_dir: PathBuf = "",
        /// Registry, `HOST[:PORT]` or with `http://` or `https://`.
        registry_address: String = "",
        /// The registry's address as peers should dial it.
        advertised_registry_address: String = "" [Inert],
        /// Whether peers should dial it without TLS.
        advertised_insecure: bool = "false" [Inert],
        /// Repository, and the stem of the shard names.
        repository_name: String = "dir",
        /// `auto` asks the registry's stamp; `single` shares a registry with other implementations.
        layout: LayoutChoice = "auto",
        /// Credentials.
        auth_config: RegistryAuth,
    }
}

section! {
    /// Credentials of the registry.
    RegistryAuth {
        /// Without a scheme in the address: `http://` when true.
        insecure: bool = "true",
        /// User.
        username: String = "",
        /// Password.
        password: Secret = "" [Secret],
        /// Bearer token.
        access_token: Secret = "" [Secret],
        /// Token to get bearer tokens with.
        refresh_token: Secret = "" [Secret],
    }
}

section! {
    /// Carried by existing files.
    StoreVerification {
        /// Has never been read by anything.
        enabled: bool = "true" [NoEffect],
    }
}

choice! {
    /// What kind of index.
    DatabaseType {
        /// Embedded.
        Embedded = "embedded",
        /// In memory, rebuilt from the store at each start.
        Memory = "memory",
        /// An alias of `embedded` that existing files carry.
        Sqlite = "sqlite",
        /// PostgreSQL.
        Postgres = "postgres",
    }
}

section! {
    /// Where the index lives. It can be rebuilt from the store.
    Database {
        /// Kind of index.
        r#type: DatabaseType = "embedded",
        /// The embedded index.
        embedded: Embedded,
        /// Place of the embedded index in existing files.
        sqlite: Sqlite,
        /// PostgreSQL.
        postgres: Postgres,
    }
}

section! {
    /// The embedded index.
    Embedded {
        /// Its directory.
        path: PathBuf = "<home>/.dir/index",
    }
}

section! {
    /// Place of the embedded index in existing files.
    Sqlite {
        /// With `database.type: sqlite` the index is `index.sled` beside this file.
        path: PathBuf = "<home>/.dir/dir.db",
    }
}

section! {
    /// PostgreSQL, for several replicas.
    Postgres {
        /// Host.
        host: String = "localhost" [Inert],
        /// Port.
        port: u16 = "5432" [Inert],
        /// Database.
        database: String = "dir" [Inert],
        /// `disable`, `require`, `verify-ca` or `verify-full`.
        ssl_mode: String = "disable" [Inert],
        /// User.
        username: String = "" [Inert],
        /// Password.
        password: Secret = "" [Secret, Inert],
    }
}

choice! {
    /// Who judges records.
    RulesMode {
        /// `remote` with a schema server, else `builtin`.
        Auto = "auto",
        /// The schema server.
        Remote = "remote",
        /// The structural check inside the server.
        Builtin = "builtin",
        /// Nobody; a record must still decode.
        Off = "off",
    }
}

section! {
    /// What is an acceptable record.
    SchemaValidation {
        /// Schema server. Empty: the structural check inside the server decides.
        schema_url: String = "",
        /// Who judges.
        mode: RulesMode = "auto",
    }
}

section! {
    /// Credentials that peers get for a sync.
    Sync {
        /// Credentials.
        auth_config: SyncAuth,
    }
}

section! {
    /// Credentials that peers get for a sync.
    SyncAuth {
        /// User.
        username: String = "" [Inert],
        /// Password.
        password: Secret = "" [Secret, Inert],
        /// Carried by existing files.
        insecure: bool = "false" [NoEffect],
        /// Carried by existing files.
        refresh_token: Secret = "" [Secret, NoEffect],
        /// Carried by existing files.
        access_token: Secret = "" [Secret, NoEffect],
    }
}
